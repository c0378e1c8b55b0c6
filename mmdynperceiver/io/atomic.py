# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Files are written whole or not at all."""
import json
import os
import shutil
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Iterator, Union

try:
    import fcntl
except ImportError:  # not on Windows, where nothing is removed
    fcntl = None  # type: ignore[assignment]

__all__ = [
    'alone_in', 'check_new_folder', 'atomic_folder', 'remove_leftovers',
    'atomic_file', 'unfinished', 'write_json', 'write_text'
]

# Begins the names of unfinished files: a dot hides them, and the rest tells
# them from those of other programs.
PREFIX = '.mmdynperceiver-'


@contextmanager
def atomic_file(path: Union[str, os.PathLike]) -> Iterator[str]:
    """Write a file under another name, and put it in place when complete.

    Args:
        path (str | PathLike): The file; its folder must exist. What was
            there before stays until the block ends without an error.

    Yields:
        str: The name to write to, in a folder beside it.

    Raises:
        OSError: If it cannot be written.
    """
    path = os.fspath(path)
    with unfinished(os.path.dirname(path) or '.') as work:
        temporary = os.path.join(work, os.path.basename(path))
        yield temporary
        os.replace(temporary, path)


@contextmanager
def atomic_folder(path: Union[str, os.PathLike]) -> Iterator[str]:
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
    with unfinished(os.path.dirname(path)) as work:
        # The work folder is a private one, this is an ordinary one.
        temporary = os.path.join(work, 'new')
        os.mkdir(temporary)
        yield temporary
        if os.path.isdir(path):
            os.rmdir(path)  # refuses what was put there meanwhile
        os.rename(temporary, path)


def remove_leftovers(folder: Union[str, os.PathLike]) -> None:
    """Remove what runs that were killed have left of unfinished files.

    A file that is being written is locked by its writer and stays.
    """
    if fcntl is None or not os.path.isdir(folder):
        return
    for entry in list(os.scandir(folder)):
        if not (entry.name.startswith(PREFIX) and entry.name.endswith('.tmp')):
            continue
        try:
            handle = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            continue  # gone meanwhile, or not ours to remove
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)
        except OSError:
            pass  # in use
        finally:
            os.close(handle)


@contextmanager
def unfinished(folder: str) -> Iterator[str]:
    """Make a folder in a folder that nobody takes for a leftover; it goes.

    Another writer may take it for one between the moments when it is made
    and when it is locked; then it is made again.
    """
    remove_leftovers(folder)
    while True:
        path = tempfile.mkdtemp(dir=folder, prefix=PREFIX, suffix='.tmp')
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, path, ignore_errors=True)
            if fcntl is not None:
                try:
                    handle = os.open(path, os.O_RDONLY)
                except FileNotFoundError:
                    continue
                stack.callback(os.close, handle)
                with suppress(OSError):  # a file system without locks
                    fcntl.flock(handle, fcntl.LOCK_EX)
            if os.path.lexists(path):
                yield path
                return


@contextmanager
def alone_in(folder: Union[str, os.PathLike]) -> Iterator[None]:
    """Hold a folder; the lock goes with the process, however it ends.

    Where the system or the disk has no locks, nothing is held.

    Raises:
        ValueError: If another process holds it.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f'another process works in the folder {os.fspath(folder)!r}: '
                f'wait for it, or end it') from None
        except OSError:
            pass
        yield
    finally:
        os.close(handle)


def check_new_folder(path: Union[str, os.PathLike]) -> None:
    """Refuse to write a folder where there is something already.

    Raises:
        FileExistsError: If it is a file, or a folder that is not empty.
    """
    path = os.fspath(path)
    if os.path.exists(path) and not (os.path.isdir(path)
                                     and not os.listdir(path)):
        raise FileExistsError(f'there is something at {path!r} already: '
                              f'remove it, or choose another folder')


def write_text(path: Union[str, os.PathLike], text: str) -> None:
    """Write a text file, whole or not at all; see :func:`atomic_file`."""
    with atomic_file(path) as temporary, \
            open(temporary, 'w', encoding='utf-8') as file:
        file.write(text)


def write_json(path: Union[str, os.PathLike], content: Any) -> None:
    """Write a JSON file, whole or not at all; odd numbers become floats."""
    write_text(path, json.dumps(content, indent=2, default=float) + '\n')
