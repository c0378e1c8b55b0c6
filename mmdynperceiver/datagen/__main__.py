# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Command line: ``python -m mmdynperceiver.datagen ROOT``."""
import argparse
import os
import sys
from collections.abc import Callable, Sequence

from .image_folder import DEFAULT_COUNTS, write_image_folder
from .sources import SPLITS
from .spec import MIN_SIZE


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line.

    Args:
        argv (Sequence[str], optional): Arguments. Defaults to those of the
            process.

    Returns:
        argparse.Namespace: The arguments.
    """
    parser = argparse.ArgumentParser(
        prog='python -m mmdynperceiver.datagen',
        description='Make an image folder of handwritten digits, or reuse it '
        'if it is there already.')
    parser.add_argument('root', help='folder to make')
    for split in SPLITS:
        parser.add_argument(
            f'--{split}',
            type=int,
            default=DEFAULT_COUNTS[split],
            metavar='N',
            help=f'number of {split} images (default: %(default)s)')
    parser.add_argument(
        '--size',
        type=int,
        default=64,
        help='height and width in pixels, at least '
        f'{MIN_SIZE} (default: %(default)s)')
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
        int: Exit status: 0 on success, 2 on bad input or a folder that cannot
        be written, 130 if interrupted.
    """
    args = parse_args(argv)
    try:
        written = write_image_folder(
            args.root,
            counts={split: getattr(args, split)
                    for split in SPLITS},
            size=args.size,
            seed=args.seed,
            hardness=args.hardness,
            overwrite=args.overwrite,
            workers=args.workers,
            progress=_progress_printer())
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            '\ninterrupted; run the same command again to go on',
            file=sys.stderr)
        return 130
    print(f'{args.root}: {"made" if written else "already there, reused"}')
    return 0


def _progress_printer() -> Callable[[int, int], None]:
    """Redraw one line on a terminal; in a log write every tenth part."""
    shown = -1

    def show(done: int, total: int) -> None:
        nonlocal shown
        line = f'making images: {done:,} of {total:,}'
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
