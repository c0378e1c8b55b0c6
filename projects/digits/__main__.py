# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Make a data set of handwritten digits, or reuse it if it is there."""
import argparse
import os
import sys
from collections.abc import Callable, Sequence

from .clips import ClipFolder
from .folder import MIN_SIZE
from .images import ImageFolder
from .scenes import SceneFolder
from .sources import SPLITS

# For each kind of data its class, and how many items it has.
KINDS = dict(
    images=(ImageFolder, dict(train=24000, val=2000, test=2000)),
    clips=(ClipFolder, dict(train=4000, val=1000, test=1000)),
    scenes=(SceneFolder, dict(train=4000, val=500, test=500)))


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line, by default that of the process."""
    parser = argparse.ArgumentParser(
        prog='python -m projects.digits', description=__doc__)
    add = parser.add_argument
    add('root', help='folder to make')
    add('--kind',
        choices=list(KINDS),
        default='images',
        help='images: one digit each, in class folders; clips: videos of a '
        'digit whose motion is the class; scenes: several digits each, with '
        "boxes in COCO's format (default: %(default)s)")
    for split in SPLITS:
        defaults = ', '.join(f'{kind} {counts[split]}'
                             for kind, (_, counts) in KINDS.items())
        add(f'--{split}',
            type=int,
            metavar='N',
            help=f'number of {split} items (default: {defaults})')
    add('--size',
        type=int,
        help='height and width in pixels, at least '
        f'{MIN_SIZE} (default: 64, scenes 96)')
    add('--seed', type=int, default=0, help='seed (default: %(default)s)')
    add('--hardness',
        type=float,
        default=1.,
        help='below 1 easy images prevail, above 1 hard ones '
        '(default: %(default)s)')
    add('--workers',
        type=int,
        default=min(2,
                    os.cpu_count() or 1),
        help='number of processes (default: %(default)s)')
    add('--overwrite',
        action='store_true',
        help='replace a data set made with other parameters')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Make the data set that the command line asks for.

    Returns:
        int: Exit status: 0 on success, 2 on bad input, a missing package or a
        folder that cannot be written, 130 if interrupted.
    """
    args = parse_args(argv)
    kind, counts = KINDS[args.kind]
    given = {split: getattr(args, split) for split in SPLITS}
    counts = counts | {k: v for k, v in given.items() if v is not None}
    options = {} if args.size is None else dict(size=args.size)
    try:
        folder = kind(
            counts, seed=args.seed, hardness=args.hardness, **options)
        written = folder.write(args.root, args.overwrite, args.workers,
                               _progress_printer(args.kind))
    except (ImportError, ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            '\ninterrupted; run the same command again to go on',
            file=sys.stderr)
        return 130
    print(f'{args.root}: {"made" if written else "already there, reused"}')
    return 0


def _progress_printer(kind: str) -> Callable[[int, int], None]:
    """Redraw one line on a terminal; in a log write every tenth part."""
    shown = -1

    def show(done: int, total: int) -> None:
        nonlocal shown
        line = f'making {kind}: {done:,} of {total:,} '
        line += f'({100 * done // total} %)'
        if sys.stderr.isatty():
            end = '\n' if done == total else '\r'
            print(line, end=end, file=sys.stderr, flush=True)
        elif 10 * done // total > shown:
            shown = 10 * done // total
            print(line, file=sys.stderr, flush=True)

    return show


if __name__ == '__main__':
    sys.exit(main())
