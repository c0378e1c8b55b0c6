# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A progress bar with counts and times."""
from rich.progress import (BarColumn, MofNCompleteColumn, Progress, TextColumn,
                           TimeElapsedColumn, TimeRemainingColumn)

__all__ = ['progress_bar']


def progress_bar() -> Progress:
    """A progress bar with counts, elapsed and remaining time."""
    return Progress(
        TextColumn('{task.description}', markup=False), BarColumn(),
        MofNCompleteColumn(), TimeElapsedColumn(), TextColumn('elapsed,'),
        TimeRemainingColumn(), TextColumn('to go'))
