# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Files are written whole or not at all."""
import json
import os
import tempfile
from contextlib import contextmanager
from typing import Any, Iterator, Union

__all__ = ['replacing', 'write_json', 'write_text']


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
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


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
