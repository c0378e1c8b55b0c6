# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Progress bars with counts and times, unless they are not wanted."""
from typing import Any, Iterable, Iterator, TypeVar

import rich.progress
from rich.progress import (BarColumn, MofNCompleteColumn, Progress, TextColumn,
                           TimeElapsedColumn, TimeRemainingColumn)

__all__ = ['is_quiet', 'progress_bar', 'set_quiet', 'track']

T = TypeVar('T')
_settings = dict(quiet=False)


def set_quiet(quiet: bool) -> None:
    """Choose whether to show no progress from now on."""
    _settings['quiet'] = quiet


def is_quiet() -> bool:
    """Whether no progress is shown."""
    return _settings['quiet']


def progress_bar() -> Progress:
    """A progress bar with counts, elapsed and remaining time."""
    return Progress(
        TextColumn('{task.description}', markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn('elapsed,'),
        TimeRemainingColumn(),
        TextColumn('to go'),
        disable=is_quiet())


def track(sequence: Iterable[T],
          description: str,
          disable: bool = False,
          **options: Any) -> Iterator[T]:
    """Show how far a loop is; see :func:`rich.progress.track`."""
    yield from rich.progress.track(
        sequence, description, disable=disable or is_quiet(), **options)
