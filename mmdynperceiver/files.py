# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Files are written whole or not at all."""
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from typing import Any, Iterator, Union

__all__ = [
    'check_new_folder', 'new_folder', 'replacing', 'write_json', 'write_text'
]


@contextmanager
def replacing(path: Union[str, os.PathLike]) -> Iterator[str]:
    """Write a file under another name, and put it in place when complete.

    Args:
        path (str | PathLike): The file; its folder must exist. What was
            there before stays until the block ends without an error.

    Yields:
        str: The name to write to, in the same folder.

    Raises:
        OSError: If it cannot be written.
    """
    path = os.fspath(path)
    handle, temporary = tempfile.mkstemp(
        dir=os.path.dirname(path) or '.', suffix='.tmp')
    os.close(handle)
    try:
        yield temporary
        # mkstemp makes private files; give what open() would have given.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


@contextmanager
def new_folder(path: Union[str, os.PathLike]) -> Iterator[str]:
    """Fill a folder under another name, and put it in place when complete.

    Args:
        path (str | PathLike): The folder; the one above it must exist. There
            may be an empty folder of this name.

    Yields:
        str: The folder to write into, beside it.

    Raises:
        FileExistsError: If there is something of this name already.
        OSError: If it cannot be written.
    """
    path = os.path.abspath(os.fspath(path))
    check_new_folder(path)
    temporary = tempfile.mkdtemp(dir=os.path.dirname(path), suffix='.tmp')
    try:
        yield temporary
        os.chmod(temporary, 0o777 & ~_umask())
        if os.path.isdir(path):
            os.rmdir(path)  # refuses what was put there meanwhile
        os.rename(temporary, path)
    except BaseException:
        shutil.rmtree(temporary)
        raise


def check_new_folder(path: Union[str, os.PathLike]) -> None:
    """Refuse to write a folder where there is something already.

    Args:
        path (str | PathLike): The folder.

    Raises:
        FileExistsError: If it is a file, or a folder that is not empty.
    """
    path = os.fspath(path)
    if os.path.exists(path) and not (os.path.isdir(path)
                                     and not os.listdir(path)):
        raise FileExistsError(f'there is something at {path!r} already: '
                              f'remove it, or choose another folder')


def _umask() -> int:
    """The permissions that new files do not get."""
    umask = os.umask(0)
    os.umask(umask)
    return umask


def write_text(path: Union[str, os.PathLike], text: str) -> None:
    """Write a text file, whole or not at all.

    Args:
        path (str | PathLike): The file; its folder must exist.
        text (str): Its content.

    Raises:
        OSError: If it cannot be written.
    """
    with replacing(path) as temporary, \
            open(temporary, 'w', encoding='utf-8') as file:
        file.write(text)


def write_json(path: Union[str, os.PathLike], content: Any) -> None:
    """Write a JSON file, whole or not at all.

    Args:
        path (str | PathLike): The file; its folder must exist.
        content (Any): What JSON can hold; other numbers become floats.
    """
    write_text(path, json.dumps(content, indent=2, default=float) + '\n')
