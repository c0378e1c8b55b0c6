# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Command line: ``python -m projects.digits ROOT``."""
import argparse
import os
import sys
from collections.abc import Callable, Sequence

from .clip_folder import DEFAULT_CLIPS, write_clip_folder
from .image_folder import DEFAULT_COUNTS, write_image_folder
from .scene_folder import DEFAULT_SCENES, write_scene_folder
from .sources import SPLITS
from .spec import MIN_SIZE

# For each kind of data what writes it, and how many it writes.
KINDS = dict(
    images=(write_image_folder, DEFAULT_COUNTS),
    clips=(write_clip_folder, DEFAULT_CLIPS),
    scenes=(write_scene_folder, DEFAULT_SCENES))


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line.

    Args:
        argv (Sequence[str], optional): Arguments. Defaults to those of the
            process.

    Returns:
        argparse.Namespace: The arguments.
    """
    parser = argparse.ArgumentParser(
        prog='python -m projects.digits',
        description='Make a data set of handwritten digits, or reuse it if '
        'it is there already.')
    parser.add_argument('root', help='folder to make')
    parser.add_argument(
        '--kind',
        choices=list(KINDS),
        default='images',
        help='images: one digit each, in class folders; clips: videos of a '
        'digit whose motion is the class; scenes: several digits each, with '
        "boxes in COCO's format (default: %(default)s)")
    for split in SPLITS:
        defaults = ', '.join(f'{kind} {counts[split]}'
                             for kind, (_, counts) in KINDS.items())
        parser.add_argument(
            f'--{split}',
            type=int,
            metavar='N',
            help=f'number of {split} items (default: {defaults})')
    parser.add_argument(
        '--size',
        type=int,
        help='height and width in pixels, at least '
        f'{MIN_SIZE} (default: 64, scenes 96)')
    parser.add_argument(
        '--seed', type=int, default=0, help='seed (default: %(default)s)')
    parser.add_argument(
        '--hardness',
        type=float,
        default=1.,
        help='below 1 easy images prevail, above 1 hard ones '
        '(default: %(default)s)')
    parser.add_argument(
        '--workers',
        type=int,
        default=min(2,
                    os.cpu_count() or 1),
        help='number of processes (default: %(default)s)')
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='replace a data set made with other parameters')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Make the data set that the command line asks for.

    Args:
        argv (Sequence[str], optional): Arguments. Defaults to those of the
            process.

    Returns:
        int: Exit status: 0 on success, 2 on bad input, a missing package or a
        folder that cannot be written, 130 if interrupted.
    """
    args = parse_args(argv)
    write, defaults = KINDS[args.kind]
    counts = {split: getattr(args, split) for split in SPLITS}
    counts = {
        split: defaults[split] if count is None else count
        for split, count in counts.items()
    }
    options = {} if args.size is None else dict(size=args.size)
    try:
        written = write(
            args.root,
            counts=counts,
            seed=args.seed,
            hardness=args.hardness,
            overwrite=args.overwrite,
            workers=args.workers,
            progress=_progress_printer(args.kind),
            **options)
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
        line = f'making {kind}: {done:,} of {total:,}'
        line += f' ({100 * done // total} %)'
        if sys.stderr.isatty():
            end = '\n' if done == total else ''
            print(f'\r{line}', end=end, file=sys.stderr, flush=True)
        elif 10 * done // total > shown:
            shown = 10 * done // total
            print(line, file=sys.stderr, flush=True)

    return show


if __name__ == '__main__':
    sys.exit(main())
