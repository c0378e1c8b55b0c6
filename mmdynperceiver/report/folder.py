# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The folder of a report: whole or not at all, and never another one."""
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

from ..io.atomic import PREFIX, unfinished

__all__ = ['check_report_folder', 'replacing_report']

# Tells a report from any other folder, which must never be replaced.
MARKER = '.mmdynperceiver-report'


def check_report_folder(folder: str | os.PathLike) -> Path:
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
def replacing_report(folder: str | os.PathLike) -> Iterator[Path]:
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
    old = folder.with_name(f'{PREFIX}{folder.name}.old')
    if old.exists() and not folder.exists():
        old.rename(folder)
    with unfinished(os.fspath(folder.parent)) as work:
        # The work folder is a private one, the report an ordinary one.
        new = Path(work) / 'new'
        new.mkdir()
        (new / MARKER).touch()
        yield new
        check_report_folder(folder)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        try:
            new.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
        shutil.rmtree(old, ignore_errors=True)
