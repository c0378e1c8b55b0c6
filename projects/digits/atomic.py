# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A data set's folder appears whole or not at all.

Until it is complete its content is in a hidden sibling ``.<name>.partial``,
which a run with the same parameters goes on from.
"""
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FORMAT = 'mmdynperceiver-digits'
_INFO = 'dataset.json'
# In a partial folder only.
_LOCK = '.lock'


def write_text(path: Path, text: str) -> None:
    """Write a file that is there as a whole or not at all."""
    scratch = path.with_name(path.name + '.tmp')
    scratch.write_text(text)
    os.replace(scratch, path)


def is_finished(root: Path, info: dict, overwrite: bool) -> bool:
    """Whether the data set is there.

    Args:
        root (Path): Its folder.
        info (dict): What its ``dataset.json`` holds.
        overwrite (bool): Take one with other parameters for not being there.

    Raises:
        OSError: If the folder holds anything else, or is damaged.
    """
    if not os.path.lexists(root) or root.is_dir() and not any(root.iterdir()):
        return False
    found = _read_info(root)
    if found is None:
        raise FileExistsError(
            f'{root} exists and is not a data set made here; choose another '
            'folder or remove it')
    if found.get('fingerprint') != info['fingerprint']:
        if overwrite:
            return False
        raise FileExistsError(
            f'{root} holds a data set with other parameters: '
            f'{_differences(found, info)}; choose another folder or ask to '
            'overwrite it')
    for split, count in info['parameters']['counts'].items():
        if count and not (root / f'{split}.csv').exists():
            raise FileNotFoundError(
                f'{root} is damaged: {split}.csv is missing; remove the '
                'folder and run this again')
    return True


@contextmanager
def filling(root: Path, info: dict) -> Iterator[Path]:
    """Fill the folder of a data set under another name.

    Args:
        root (Path): The folder. An older data set there is replaced at the
            end, if nothing was raised.
        info (dict): What its ``dataset.json`` holds.

    Yields:
        Path: The folder to write to, with what an interrupted run with the
        same parameters has left.

    Raises:
        OSError: If it cannot be written, or another process is at it.
    """
    partial = root.with_name(f'.{root.name}.partial')
    lock = partial / _LOCK
    try:
        partial.mkdir(parents=True, exist_ok=True)
        # mkdir does not tell whether an old partial folder can be written.
        lock.touch()
    except OSError as error:
        raise OSError(
            f'cannot write to {partial.parent}: {error.strerror}; choose a '
            'folder that can be written') from error
    with open(lock) as file:
        if not _is_locked(file, lock):
            raise OSError(
                f'another process is making {root}; wait for it, then run '
                'this again')
        if _read_info(partial) != info:
            _empty(partial)
            write_text(partial / _INFO, json.dumps(info, indent=2) + '\n')
        yield partial
        lock.unlink()
        old = root.with_name(f'.{root.name}.old')
        shutil.rmtree(old, ignore_errors=True)
        if root.exists():
            os.rename(root, old)
        os.replace(partial, root)
        shutil.rmtree(old, ignore_errors=True)


def _is_locked(file, path):
    """Lock an open file; False if another process has or had the lock."""
    if os.name != 'posix':
        return True
    import fcntl
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A process that had the lock before may have renamed the folder.
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except (BlockingIOError, FileNotFoundError):
        return False


def _empty(partial):
    """Remove what a run with other parameters has left."""
    content = [path for path in partial.iterdir() if path.name != _LOCK]
    if content and _read_info(partial) is None:
        raise FileExistsError(
            f'{partial} exists and was not made here; remove it or choose '
            'another folder')
    for path in content:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _read_info(folder):
    """The ``dataset.json`` of a data set made here, or None."""
    try:
        info = json.loads((folder / _INFO).read_text())
        return info if info['format'] == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _differences(*infos):
    """How the parameters of two data sets differ."""
    old, new = (
        dict(
            info.get('parameters', {}),
            generator_version=info.get('generator_version')) for info in infos)
    return ', '.join(f'{key} is {old.get(key)} and not {new.get(key)}'
                     for key in new | old if old.get(key) != new.get(key))
