# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Command line of ``tools/calibrate.py``."""
import argparse
import os

import torch

from ..core.criteria import CRITERIA
from ..errors import InputError
from ..hosts.calibrate import SOLVERS
from . import common

__all__ = [
    'add_output_options', 'check_args', 'check_output_options', 'parse_args'
]


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Solve the thresholds of a checkpoint on held-out images '
        'and write them to a file. Without a checkpoint, --hold-out writes '
        'the list of images that training has to leave out.')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint file')
    _add_goal(parser)
    parser.add_argument(
        '--latency-table', help='JSON file of tools/benchmark.py')
    parser.add_argument(
        '--criterion',
        choices=CRITERIA,
        default='max_prob',
        help='what the thresholds are compared with (default: max_prob)')
    parser.add_argument(
        '--temperature',
        choices=['fit', 'none'],
        default='none',
        help='fit a temperature for each exit on the held-out images '
        '(default: none)')
    parser.add_argument(
        '--solver',
        choices=SOLVERS,
        help='search the best thresholds, or find those of the published '
        'shares (default: search; for --sweep shares)')
    parser.add_argument(
        '--split',
        choices=['train', 'val', 'test'],
        help="the config's data to take held-out images from, with the "
        "test data's transform (default: val; with --hold-out train)")
    parser.add_argument(
        '--hold-out',
        type=int,
        metavar='N',
        help='take only N images, always the same ones and from each class '
        'its share; those of the training images must be left out of '
        'training')
    parser.add_argument(
        '--test',
        action='store_true',
        help='also evaluate the thresholds on the test data')
    parser.add_argument(
        '--report', metavar='DIR', help='write tables and pictures there')
    add_output_options(parser)
    common.add_common_options(parser)
    return parser.parse_args()


def _add_goal(parser: argparse.ArgumentParser) -> None:
    """Options of what to solve for."""
    goal = parser.add_mutually_exclusive_group()
    goal.add_argument(
        '--budget-macs',
        help='most MACs of an image on average: 7.5M, 1.2G, a plain number, '
        'or a share of the last exit such as 50%%. What comes of it on the '
        'held-out images is told with intervals of 95 %%')
    goal.add_argument(
        '--budget-ms',
        help='most milliseconds of an image on average, or a share of the '
        'last exit such as 50%%; needs --latency-table')
    goal.add_argument(
        '--min-accuracy',
        help='least accuracy on the held-out images, 0.95 or 95%%, as cheap '
        'as possible')
    goal.add_argument(
        '--sweep',
        choices=['paper'],
        help='the 33 points of the published sweep, in one file; '
        'tools/test.py --thresholds-file FILE:12 takes one of them')
    goal.add_argument(
        '--thresholds-file',
        metavar='FILE.json',
        help='solve nothing, but take this operating point (FILE.json:12 of '
        'a sweep): measure it on these images, embed it or report on it')


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Options of where results go, and of where the network runs.

    Args:
        parser (ArgumentParser): That of a tool which solves thresholds.
    """
    parser.add_argument(
        '--out',
        metavar='FILE.json',
        help='where the operating point goes (default: beside the '
        'checkpoint, <name>.operating_point.json)')
    parser.add_argument(
        '--embed',
        nargs='?',
        const='',
        metavar='FILE.pth',
        help='also write a copy of the checkpoint that carries the operating '
        'point (default: beside it, <name>.calibrated.pth)')
    parser.add_argument(
        '--device',
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='where the network runs (default: a GPU if there is one)')


def check_args(args: argparse.Namespace) -> None:
    """Refuse options that do not go together, and fill in defaults.

    Args:
        args (Namespace): The options.

    Raises:
        InputError: If some do not go together, or what they name cannot be
            written.
    """
    if args.launcher != 'none':
        raise InputError('thresholds are solved in one process: leave out '
                         '--launcher')
    args.split = args.split or ('val' if args.hold_out is None else 'train')
    if args.checkpoint is None:
        if args.hold_out is None:
            raise InputError('give a checkpoint, or --hold-out for the list '
                             'of images that training has to leave out')
        return
    goals = (args.budget_macs, args.budget_ms, args.min_accuracy, args.sweep,
             args.thresholds_file)
    if not any(goals):
        raise InputError('choose what to solve for: --budget-macs, '
                         '--budget-ms, --min-accuracy or --sweep paper; or '
                         'give a --thresholds-file')
    if args.budget_ms and not args.latency_table:
        raise InputError('--budget-ms needs --latency-table, which '
                         'tools/benchmark.py writes')
    args.solver = args.solver or ('shares' if args.sweep else 'search')
    if args.criterion == 'patience' and args.temperature == 'fit':
        raise InputError('a temperature does not change patience: leave out '
                         '--temperature fit')
    if args.sweep and args.embed is not None:
        raise InputError('--embed needs one operating point, not a sweep')
    check_output_options(args, 'sweep' if args.sweep else 'operating_point')


def check_output_options(args: argparse.Namespace,
                         kind: str = 'operating_point') -> None:
    """Refuse what cannot be written, and fill in defaults.

    Args:
        args (Namespace): With those of :func:`add_output_options`,
            ``checkpoint`` and ``report``.
        kind (str): Ends the default name of the file. Defaults to
            'operating_point'.

    Raises:
        InputError: If something cannot be written, or the copy would replace
            the checkpoint.
        FileExistsError: If the report would replace what is none.
    """
    checkpoint = os.path.expanduser(args.checkpoint)
    stem = os.path.splitext(checkpoint)[0]
    args.out = args.out or f'{stem}.{kind}.json'
    common.check_writable_file(args.out, ('.json', ))
    if args.embed is not None:
        args.embed = args.embed or f'{stem}.calibrated.pth'
        common.check_writable_file(args.embed, ('.pth', '.pt'))
        if os.path.realpath(args.embed) == os.path.realpath(checkpoint):
            raise InputError(f'--embed would replace the checkpoint '
                             f'{args.checkpoint!r}: give another name')
    if args.report:
        from ..report import check_report_folder
        folder = check_report_folder(args.report)
        common.check_writable_folder(os.fspath(folder.parent))
