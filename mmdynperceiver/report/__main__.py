# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Draw curves of several CSV files, and published ones, on one plot."""
import argparse
import os
import sys
from typing import Sequence

from .curve import Curve, plot_accuracy_macs
from .curve_files import (published_curves, published_figures, read_curves,
                          read_sweep)
from .figure import exit_colour


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='python -m mmdynperceiver.report', description=__doc__)
    parser.add_argument(
        'curves',
        nargs='*',
        metavar='CURVES.csv',
        help='curve.csv of a report, a file with the columns name, macs and '
        'top1 (in percent), or the JSON file of a sweep of '
        'tools/calibrate.py')
    parser.add_argument('--out', required=True, help='PNG file to write')
    parser.add_argument(
        '--published',
        choices=published_figures(),
        help='add the points of this figure of the paper')
    parser.add_argument(
        '--network', help='only those of them that have this in their name')
    parser.add_argument(
        '--only',
        nargs='+',
        metavar='TEXT',
        help='of the files, only curves with one of these in their name, as '
        "in --only 'search, test' 'static exits, test'")
    parser.add_argument('--title', default='', help='title of the picture')
    args = parser.parse_args(argv)
    if not args.curves and args.published is None:
        parser.error('give CSV files, --published, or both')
    if args.network is not None and args.published is None:
        parser.error('--network chooses from the points of --published')
    if not args.out.endswith('.png'):
        parser.error(f'--out must end with .png, got {args.out!r}')
    return args


def read(args: argparse.Namespace) -> list[Curve]:
    """The curves of all files, and the published ones."""
    curves: list[Curve] = []
    for number, path in enumerate(args.curves):
        found = read_sweep(path) if path.endswith('.json') else \
            read_curves(path)
        if len(args.curves) > 1:
            # Reports all name their series alike: a name and a colour for
            # each network.
            folder, name = os.path.split(path)
            stem = os.path.basename(folder) if name == 'curve.csv' else \
                os.path.splitext(name)[0]
            for curve in found:
                curve.name = f'{stem}: {curve.name}'
                curve.colour = exit_colour(number)
        kept = [
            curve for curve in found
            if not args.only or any(text in curve.name for text in args.only)
        ]
        if not kept:
            raise ValueError(
                f'--only {args.only} leaves none of the curves of {path!r}: '
                f'{", ".join(repr(curve.name) for curve in found)}')
        curves += kept
    if args.published is not None:
        curves += published_curves(args.published, args.network)
    return curves


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the plot; errors of use are one line."""
    args = parse_args(argv)
    try:
        plot_accuracy_macs(read(args), args.out, args.title)
    except (OSError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    print(f'wrote {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
