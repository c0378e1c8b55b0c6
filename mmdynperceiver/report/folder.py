# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The folder of a report: whole or not at all, and never another one."""
import glob
import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Iterator, Optional, Union

__all__ = ['MARKER', 'check_report_folder', 'replacing_report']

# Tells a report from any other folder, which must never be replaced.
MARKER = '.mmdynperceiver-report'
# Held by whoever writes a report, in the folder that it is written in.
LOCK = 'lock'
# Seconds after which a folder without a lock is no longer just being made.
_DAY = 86400


def check_report_folder(folder: Union[str, os.PathLike]) -> Path:
    """Refuse a folder that a report must not replace.

    Args:
        folder (str | PathLike): The folder; it need not be there.

    Returns:
        Path: The same.

    Raises:
        FileExistsError: If there is something that is no report.
    """
    folder = Path(os.path.abspath(folder))
    if not folder.exists() and not folder.is_symlink():
        return folder
    if not folder.is_dir() or folder.is_symlink():
        raise FileExistsError(f'a report is a folder, but {str(folder)!r} is '
                              f'a file or a link; give another name')
    if any(folder.iterdir()) and not (folder / MARKER).is_file():
        raise FileExistsError(
            f'{str(folder)!r} holds other files and is not a report, so it '
            f'is not replaced; give another folder, or empty it')
    return folder


@contextmanager
def replacing_report(folder: Union[str, os.PathLike]) -> Iterator[Path]:
    """Fill a report's folder beside it, and put it in place when complete.

    What runs that were killed left behind is removed; had one just taken the
    older report away, that comes back.

    Args:
        folder (str | PathLike): The folder; a report that is there is
            replaced.

    Yields:
        Path: The folder to write into.

    Raises:
        FileExistsError: If there is something that is no report.
    """
    folder = check_report_folder(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder)
    work = Path(tempfile.mkdtemp(prefix=f'.{folder.name}.', dir=folder.parent))
    # The system gives the lock up, however the process ends.
    lock = _locked(work / LOCK, 'x')
    try:
        new, old = work / 'new', work / 'old'
        # mkdtemp makes private folders; the report is an ordinary one.
        new.mkdir()
        (new / MARKER).write_text('', encoding='utf-8')
        yield new
        check_report_folder(folder)
        if folder.exists():
            folder.rename(old)
        try:
            new.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if lock is not None:
            lock.close()


def _locked(path: Path, mode: str) -> Optional[IO[str]]:
    """Open a file and lock it; None if it is in use or there are no locks."""
    file = path.open(mode)
    try:
        import fcntl
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        file.close()
        return None
    return file


def _remove_leftovers(folder: Path) -> None:
    """Remove what runs that were killed left beside a report."""
    pattern = f'.{glob.escape(folder.name)}.????????'
    for work in folder.parent.glob(pattern):
        if work.is_symlink() or not work.is_dir() or \
                not {path.name for path in work.iterdir()
                     } <= {LOCK, 'new', 'old'}:
            continue
        try:
            lock = _locked(work / LOCK, 'r')
            if lock is None:
                continue  # still being written, or nobody knows
            lock.close()
        except FileNotFoundError:
            if time.time() - work.stat().st_mtime < _DAY:
                continue
        old = work / 'old'
        if old.is_dir() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(work, ignore_errors=True)
