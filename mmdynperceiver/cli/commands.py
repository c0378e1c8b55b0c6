# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""``mmdynperceiver COMMAND ...``: all programs behind one name.

A program is a row of :data:`COMMANDS`. Its module is imported when it runs, so
that help is there at once, and a host that is missing or broken stops only
what needs it.
"""
import argparse
import importlib
import sys
from typing import Dict, NamedTuple, Optional, Sequence

from ..errors import InputError, one_line
from ..version import __version__
from .run import run_tool

__all__ = ['COMMANDS', 'Command', 'main']

PROGRAM = 'mmdynperceiver'
GO_ON = 'stopped; the same command goes on'


class Command(NamedTuple):
    """A program.

    Args:
        module (str): Below this package, with a ``main()`` that reads
            ``sys.argv`` and returns the exit status, or None for 0.
        summary (str): What it does, in a line.
        stopped (str): What to say after Ctrl-C. Defaults to 'stopped'.
    """

    module: str
    summary: str
    stopped: str = 'stopped'


COMMANDS: Dict[str, Command] = {
    'demo':
    Command(
        'cli.demo', 'train a small network on digits, and show what '
        'leaving early saves', GO_ON),
    'doctor':
    Command('doctor', 'say what works here, and what fixes the rest'),
    'fit':
    Command('fitting.command', 'from a folder of images to a deployed model',
            GO_ON),
    'train':
    Command('cli.train', 'train the model of a config',
            'stopped; --resume goes on from the last checkpoint'),
    'test':
    Command('cli.test', 'evaluate a checkpoint: each exit, and leaving early'),
    'calibrate':
    Command('cli.calibrate', 'solve thresholds for a budget', GO_ON),
    'calibrate-detector':
    Command('cli.calibrate_detector', 'the same for a detector that stops '
            'early', GO_ON),
    'benchmark':
    Command('cli.benchmark', 'measure how long networks take to each exit'),
    'check-gpu':
    Command('cli.check_gpu', 'check that a GPU computes right, and how fast',
            GO_ON),
    'export':
    Command('cli.export', 'write a checkpoint as graphs that run without '
            'torch'),
    'predict':
    Command(
        'cli.predict', 'classify images by a checkpoint, a saved or an '
        'exported folder'),
    'share':
    Command(
        'cli.share', 'save a checkpoint as a folder to load anywhere, '
        'and push it to the Hub'),
    'serve':
    Command('serve.__main__', 'serve an exported network by HTTP'),
    'convert':
    Command('cli.convert', 'turn published weights into a checkpoint'),
}


def make_parser() -> argparse.ArgumentParser:
    """The command line up to the command; the rest is the program's own."""
    width = max(map(len, COMMANDS)) + 2
    rows = '\n'.join(f'  {name:{width}}{command.summary}'
                     for name, command in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        usage=f'{PROGRAM} COMMAND ...',
        description='Vision networks that leave early.\n\ncommands:\n' + rows,
        epilog=f'{PROGRAM} COMMAND --help tells the options of one.',
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--version', action='version', version=__version__)
    parser.add_argument(
        'command',
        choices=list(COMMANDS),
        metavar='COMMAND',
        help=argparse.SUPPRESS)
    return parser


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run a program; errors of use are one line.

    Args:
        argv (Sequence[str], optional): The command and its arguments.
            Defaults to None, those of the process.

    Returns:
        int: The exit status, if it does not come as a ``SystemExit``.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    if not words:
        make_parser().print_help()
        return 2
    # What stands behind the command is not for this parser, --help neither.
    name = make_parser().parse_args(words[:1]).command
    command = COMMANDS[name]

    def program() -> Optional[int]:
        """Import and run it."""
        try:
            module = importlib.import_module(f'{PROGRAM}.{command.module}')
        except ImportError as error:
            raise InputError(f'{PROGRAM} {name} cannot start: '
                             f'{one_line(error)} ({PROGRAM} doctor says what '
                             f'to install)') from error
        return module.main()

    old, sys.argv = sys.argv, [f'{PROGRAM} {name}', *words[1:]]
    try:
        run_tool(program, command.stopped)
    finally:
        sys.argv = old
    return 0
