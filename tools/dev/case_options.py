# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The command line of the tools that try the package case by case."""
import argparse
import sys
import time
from typing import Any, Collection, Iterator

__all__ = ['cases', 'parse_args']


def parse_args(description: str, what: str,
               known: Collection[str]) -> argparse.Namespace:
    """Read the command line; what is tried is in ``names``.

    Args:
        description (str): Of the tool.
        what (str): What is tried, which names the option.
        known (Collection[str]): All that can be tried.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        f'--{what}',
        dest='names',
        nargs='+',
        choices=sorted(known),
        default=sorted(known),
        help='(default: all)')
    parser.add_argument(
        '--seconds',
        type=float,
        default=60.,
        help='how long, shared out over all (default: 60)')
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        help='number of the first case of each (default: 0)')
    parser.add_argument(
        '--most',
        type=int,
        default=sys.maxsize,
        help='run no more than so many cases of each')
    parser.add_argument('--case', type=int, help='run this one case only')
    args = parser.parse_args()
    args.seconds /= len(args.names)
    if args.case is not None:
        args.seed, args.most = args.case, 1
    return args


def cases(first: int, most: int, seconds: float) -> Iterator[Any]:
    """Numbers of cases until the time is over, but one at least."""
    end = time.monotonic() + seconds
    for number in range(first, first + most):
        if number > first and time.monotonic() > end:
            break
        yield number
