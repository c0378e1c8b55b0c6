# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What the tools print, and what of a runner's log is shown; the log file
keeps everything."""
import logging
import re
import warnings

from mmengine.logging import MMLogger
from mmengine.logging.logger import MMFormatter
from rich.console import Console

from ..progress import is_quiet

__all__ = [
    'console', 'ignore_routine_warnings', 'quiet_console', 'say', 'say_step',
    'warn'
]

# Folders may have [brackets] in their names.
console = Console(markup=False, emoji=False, highlight=False)

# Messages of a line that tell nothing about the run.
ROUTINE = re.compile(r'paramwise_options -- |'
                     r'"(FileClient|HardDiskBackend)" .*be deprecated|'
                     r'Distributed training is not used|'
                     r'Checkpoints will be saved to |'
                     r'Exp name: |'
                     r'Because batch augmentations are enabled, the data |'
                     # tools/test.py prints a table of these.
                     r'Epoch\(test\) .* dynamic/macs: ')
# Warnings of the stack that tell nothing to a user of the tools: parts of
# mmcv that mmcv-lite lacks and nothing here needs, and how packages are found.
WARNINGS = ('Fail to import ``MultiScaleDeformableAttention``',
            'pkg_resources is deprecated as an API')
MACS = re.compile(r'(macs: )(\d+\.\d+)')


def say(text: str) -> None:
    """Print what is neither a result nor a warning."""
    if not is_quiet():
        console.print(text)


def say_step(text: str) -> None:
    """Begin a step."""
    if not is_quiet():
        console.rule(text)


def warn(text: str) -> None:
    """Print a warning."""
    console.print(f'warning: {text}', style='yellow')


def quiet_console(logger: MMLogger) -> None:
    """Let the console of a runner show short messages and warnings only.

    Lists over many lines (environment, config, hooks, parameters) stay in
    the log file, and MACs are shown in millions. With --quiet, so do all
    messages but warnings.

    Args:
        logger (MMLogger): The runner's.
    """
    for handler in logger.handlers:
        # Its subclasses write files.
        if type(handler) is logging.StreamHandler:
            handler.addFilter(_is_for_the_console)
            if is_quiet():
                handler.setLevel(logging.WARNING)
            handler.setFormatter(_ConsoleFormatter(datefmt='%m/%d %H:%M:%S'))


def ignore_routine_warnings() -> None:
    """Keep warnings of the stack off the console that help nobody."""
    for message in WARNINGS:
        warnings.filterwarnings('ignore', message=message)


def _is_for_the_console(record: logging.LogRecord) -> bool:
    """Tell what a user should see of the log."""
    text = record.getMessage().strip()
    if ROUTINE.match(text):
        return False
    return record.levelno > logging.INFO or '\n' not in text


class _ConsoleFormatter(MMFormatter):
    """Write MACs in millions."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        return MACS.sub(
            lambda found: f'{found[1]}{float(found[2]) / 1e6:.2f}M',
            super().format(record))
