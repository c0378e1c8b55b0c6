# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Progress bars with counts and times, unless they are not wanted."""
from typing import Any, Iterable, Iterator, TypeVar

try:
    import rich.progress
except ImportError:  # it comes with mmengine, and torch alone has none
    rich = None  # type: ignore[assignment]

__all__ = [
    'add_quiet_option', 'is_quiet', 'progress_bar', 'set_quiet', 'track'
]

T = TypeVar('T')
_settings = dict(quiet=False)


def set_quiet(quiet: bool) -> None:
    """Choose whether to show no progress from now on."""
    _settings['quiet'] = quiet


def is_quiet() -> bool:
    """Whether no progress is shown."""
    return _settings['quiet']


def add_quiet_option(parser: Any) -> None:
    """Add the option to show results and warnings only."""
    parser.add_argument(
        '--quiet',
        action='store_true',
        help='show results and warnings, but no progress')


class _NoBar:
    """Shows nothing."""

    def __enter__(self) -> '_NoBar':
        return self

    def __exit__(self, *args: Any) -> None:
        """Nothing to tidy up."""

    def add_task(self, *args: Any, **kwargs: Any) -> int:
        """See ``rich.progress.Progress``."""
        return 0

    advance = update = add_task


def progress_bar() -> Any:
    """A progress bar with counts, elapsed and remaining time; without rich
    nothing is shown."""
    if rich is None:
        return _NoBar()
    shown = rich.progress
    return shown.Progress(
        shown.TextColumn('{task.description}', markup=False),
        shown.BarColumn(),
        shown.MofNCompleteColumn(),
        shown.TimeElapsedColumn(),
        shown.TextColumn('elapsed,'),
        shown.TimeRemainingColumn(),
        shown.TextColumn('to go'),
        disable=is_quiet())


def track(sequence: Iterable[T],
          description: str,
          disable: bool = False,
          **options: Any) -> Iterator[T]:
    """Show how far a loop is; see :func:`rich.progress.track`."""
    if rich is None:
        yield from sequence
        return
    yield from rich.progress.track(
        sequence, description, disable=disable or is_quiet(), **options)
