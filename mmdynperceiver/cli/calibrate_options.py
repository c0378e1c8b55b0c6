# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Command line of the tools that solve thresholds."""
import argparse
import os
from importlib.util import find_spec
from typing import Optional, Sequence

from ..calibration.goals import (SOLVERS, Goal, parse_accuracy, parse_amount,
                                 parse_part)
from ..calibration.learned_stopping import LEARNERS
from ..calibration.risk_control import CLASS_RISKS
from ..core.criteria import CRITERIA
from ..errors import InputError
from ..exit_settings import ENSEMBLES
from . import common

__all__ = ['add_class_options', 'check_args', 'make_goal', 'make_parser']


def make_parser(description: str,
                measure: str = 'accuracy') -> argparse.ArgumentParser:
    """Options of all tasks; ``measure`` is what one calls the utility."""
    parser = argparse.ArgumentParser(description=description)
    parser.set_defaults(
        measure=measure,
        criterion='learned',
        temperature='none',
        exit_accuracy=None,
        ensemble=None,
        learner=None,
        risk=None,
        hold_out=None)
    add = parser.add_argument
    add('config', help='config file')
    add('checkpoint',
        nargs='?' if measure == 'accuracy' else None,
        help='checkpoint file')
    _add_goals(parser, measure)
    add('--latency-table', help='JSON file of tools/benchmark.py')
    add('--solver',
        choices=SOLVERS,
        help='search the best thresholds, or find those of the published '
        'shares (default: search; for --sweep shares)')
    add('--split',
        choices=['train', 'val', 'test'],
        help="the config's data to take held-out images from, with the "
        "test data's transform (default: val; with --hold-out train)")
    add('--test',
        action='store_true',
        help='also evaluate the thresholds on the test data')
    add('--report', metavar='DIR', help='write tables and pictures there')
    add('--out',
        metavar='FILE.json',
        help='where the operating point goes (default: beside the '
        'checkpoint, <name>.operating_point.json)')
    add('--embed',
        nargs='?',
        const='',
        metavar='FILE.pth',
        help='also write a copy of the checkpoint that carries the operating '
        'point (default: beside it, <name>.calibrated.pth)')
    common.add_device_option(parser)
    common.add_common_options(parser)
    return parser


def _add_goals(parser: argparse.ArgumentParser, measure: str) -> None:
    """Options of what to solve for."""
    add = parser.add_mutually_exclusive_group().add_argument
    add('--budget-macs',
        help='most MACs of an image on average: 7.5M, 1.2G, a plain number, '
        'or a share of the last exit such as 50%%. What comes of it on the '
        'held-out images is told with intervals of 95 %%')
    add('--budget-ms',
        help='most milliseconds of an image on average, or a share of the '
        'last exit such as 50%%; needs --latency-table')
    floor = 'accuracy on the held-out images, 0.95 or 95%%'
    if measure != 'accuracy':
        floor = ('mean utility of the held-out images, minus the detection '
                 'loss, such as --min-utility=-0.6')
    add(f'--min-{measure}',
        dest='min_utility',
        help=f'least {floor}, as cheap as possible')
    if measure == 'accuracy':
        add('--exit-accuracy',
            help='let an image leave where its class is right with this '
            'probability, 0.95 or 95%%, by the held-out images')
    worse = 'worse' if measure == 'accuracy' else \
        'larger in its loss, of an image counted up to 1,'
    add('--max-risk',
        help=f'least cost at which the network is at most so much {worse} '
        f'than its last exit, 0.01 or 1%%, also on images to come: half of '
        f'the held-out images certify it')
    add('--sweep',
        choices=['paper'],
        help='the 33 points of the published sweep, in one file; '
        'tools/test.py --thresholds-file FILE:12 takes one of them')
    add('--curve',
        dest='sweep',
        action='store_const',
        const='curve',
        help='a whole curve of the best points from the cheapest to the '
        'most accurate, in one file; a service moves along it under load')
    add('--thresholds-file',
        metavar='FILE.json',
        help='solve nothing, but take this operating point (FILE.json:12 of '
        'a sweep): measure it on these images, embed it or report on it')
    parser.add_argument(
        '--certainty',
        help='how certain --max-risk has to be, 0.9 or 90%% (default: none; '
        'it holds on average over sets of held-out images)')


def add_class_options(parser: argparse.ArgumentParser) -> None:
    """Options of networks that tell classes."""
    add = parser.add_argument
    add('--criterion',
        choices=[*CRITERIA, 'logistic'],
        default='max_prob',
        help='what the thresholds are compared with; logistic learns when to '
        'stop (default: max_prob)')
    add('--learner',
        choices=LEARNERS,
        help='how --criterion logistic learns: by backward induction, or as '
        'the gates of JEI-DNN (default: induction)')
    add('--ensemble',
        choices=ENSEMBLES,
        help='let each exit answer with those before it: a running average '
        'of logits, a geometric mean with weights that are learned, or a '
        'product of experts (default: each alone)')
    add('--temperature',
        choices=['fit', 'none'],
        default='none',
        help='fit a temperature for each exit on the held-out images '
        '(default: none)')
    add('--risk',
        choices=CLASS_RISKS,
        help='of --max-risk: how often the class is not that of the last '
        'exit, or how much less accurate the network is than its last exit '
        '(default: disagreement)')
    add('--hold-out',
        type=int,
        metavar='N',
        help='take only N images, always the same ones and from each class '
        'its share; those of the training images must be left out of '
        'training')


def check_args(args: argparse.Namespace) -> None:
    """Refuse options that do not go together, and fill in defaults.

    Raises:
        InputError: If some do not go together, or what they name cannot be
            read or written.
        FileExistsError: If the report would replace what is none.
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
    goals = (args.budget_macs, args.budget_ms, args.min_utility,
             args.exit_accuracy, args.max_risk, args.sweep,
             args.thresholds_file)
    if not any(goals):
        raise InputError(f'choose what to solve for: --budget-macs, '
                         f'--budget-ms, --min-{args.measure} or --sweep paper;'
                         f' or give a --thresholds-file')
    for name in ('certainty', 'risk'):
        if getattr(args, name) and not args.max_risk:
            raise InputError(f'--{name} is that of a --max-risk: give one')
    args.risk = args.risk or ('disagreement'
                              if args.measure == 'accuracy' else 'loss-gap')
    if args.solver == 'shares' and (args.max_risk or args.exit_accuracy):
        raise InputError('--solver shares is for a budget, a floor or the '
                         'sweep: --max-risk and --exit-accuracy find '
                         'thresholds in their own way; leave it out')
    if args.budget_ms and not args.latency_table:
        raise InputError('--budget-ms needs --latency-table, which '
                         'tools/benchmark.py writes')
    make_goal(args, (0., 1.), (0., 1.))
    args.solver = args.solver or ('shares'
                                  if args.sweep == 'paper' else 'search')
    if args.criterion in ('patience', 'logistic') and \
            args.temperature == 'fit':
        raise InputError(f'a temperature does not change {args.criterion}: '
                         f'leave out --temperature fit')
    if args.criterion == 'logistic':
        _check_logistic(args)
    elif args.learner:
        raise InputError(f'--learner is how --criterion logistic learns, got '
                         f'it for {args.criterion}: leave it out')
    if args.ensemble and args.thresholds_file:
        raise InputError('--ensemble is for new thresholds; those of a '
                         '--thresholds-file have theirs: leave it out')
    if args.sweep and args.embed is not None:
        raise InputError('--embed needs one operating point, not a sweep')
    _check_outputs(args)


def _check_logistic(args: argparse.Namespace) -> None:
    """Refuse what learned stopping does not serve."""
    if args.solver == 'shares' or args.sweep or args.exit_accuracy or \
            args.thresholds_file:
        raise InputError('--criterion logistic is learned for a budget, a '
                         'floor or a largest risk: leave out --sweep, '
                         '--exit-accuracy, --thresholds-file and --solver '
                         'shares')
    if find_spec('sklearn') is None:
        raise InputError('--criterion logistic needs scikit-learn: pip '
                         'install scikit-learn')


def _check_outputs(args: argparse.Namespace) -> None:
    """Refuse what cannot be written, and fill in defaults."""
    checkpoint = os.path.expanduser(args.checkpoint)
    stem = os.path.splitext(checkpoint)[0]
    kind = dict(
        paper='sweep', curve='curve').get(args.sweep, 'operating_point')
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


def make_goal(args: argparse.Namespace, macs: Sequence[float],
              latencies: Optional[Sequence[float]]) -> Goal:
    """What is asked for, by mean MACs or milliseconds up to each exit.

    Raises:
        InputError: If it cannot be read, or cannot be met.
    """
    if args.budget_ms:
        assert latencies is not None
        budget = parse_amount(args.budget_ms, latencies[-1], '--budget-ms')
        return Goal(latencies, 'ms', budget)
    if args.budget_macs:
        budget = parse_amount(args.budget_macs, macs[-1], '--budget-macs')
        return Goal(macs, budget=budget)
    if args.exit_accuracy:
        if find_spec('sklearn') is None:
            raise InputError('--exit-accuracy needs scikit-learn: pip install '
                             'scikit-learn')
        return Goal(
            macs,
            exit_accuracy=parse_part(args.exit_accuracy, '--exit-accuracy'))
    if args.max_risk:
        return Goal(
            macs,
            max_risk=parse_part(args.max_risk, '--max-risk'),
            certainty=args.certainty
            and parse_part(args.certainty, '--certainty'),
            risk=args.risk)
    if not args.min_utility:
        return Goal(macs, curve=args.sweep == 'curve')
    if args.measure == 'accuracy':
        return Goal(macs, min_utility=parse_accuracy(args.min_utility))
    try:
        return Goal(macs, min_utility=float(args.min_utility))
    except ValueError:
        raise InputError(f'--min-utility must be a number, got '
                         f'{args.min_utility!r}') from None
