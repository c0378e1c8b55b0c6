# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Classify images with an exported network.

Run ``python -m mmdynperceiver.deploy FOLDER IMAGES...``.
"""
import argparse
import os
import sys
from typing import Any, Dict, List, Optional, Sequence

from ..datasets.image_files import Broken, find_files
from ..io.describe import one_line
from ..io.result_file import (ENDINGS, INTERRUPTED, ResultFile,
                              add_result_options, printable, stoppable)
from .printing import Printer
from .runner import Result, Runner
from .sessions import PRECISIONS, RUNTIMES
from .stream import classify_files

# What a table holds of a result.
COLUMNS = ('path', 'label', 'name', 'score', 'exit_index', 'confidence',
           'macs', 'milliseconds', 'preparing_milliseconds', 'error')


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='python -m mmdynperceiver.deploy',
        description='Classify images with a network that tools/export.py '
        'wrote. Each image leaves at the first exit that is sure enough.')
    parser.add_argument('folder', help='folder that tools/export.py wrote')
    parser.add_argument(
        'images', nargs='+', help='image files, or folders with images')
    parser.add_argument(
        '--runtime',
        choices=list(RUNTIMES),
        default='onnxruntime',
        help='(default: onnxruntime)')
    parser.add_argument(
        '--precision',
        choices=PRECISIONS,
        default='fp32',
        help='bf16 needs openvino and a processor that has it (default: fp32)')
    parser.add_argument(
        '--batch-size', type=int, default=1, help='(default: 1)')
    parser.add_argument(
        '--threads', type=int, help='threads (default: one for each core)')
    parser.add_argument(
        '--thresholds',
        nargs='+',
        type=float,
        help='instead of the exported ones, one for each exit but the last; '
        'for the same criterion')
    parser.add_argument(
        '--max-pixels',
        type=int,
        help='refuse larger images before they are decoded (default: '
        '178956970, or what MMDYNPERCEIVER_MAX_PIXELS says)')
    parser.add_argument(
        '--quiet', action='store_true', help='print no line for each image')
    add_result_options(parser)
    args = parser.parse_args(argv)
    for name in ('batch_size', 'threads', 'max_pixels'):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f'--{name.replace("_", "-")} must be at least 1, '
                         f'got {value}')
    if args.out:
        _check_out(parser, args.out)
    return args


def _check_out(parser: argparse.ArgumentParser, path: str) -> None:
    """Refuse a file that cannot be written, before there are results."""
    folder = os.path.dirname(path) or '.'
    if not path.endswith(ENDINGS):
        parser.error(f'--out must end with {", ".join(ENDINGS)}, got {path!r}')
    if not os.path.isdir(folder):
        parser.error(f'there is no folder for the file {path!r}')
    if os.path.isdir(path) or not os.access(folder, os.W_OK):
        parser.error(f'cannot write the file {path!r}: it is a folder, or its '
                     f'folder is not writable')


def as_json(result: Result) -> Dict[str, Any]:
    """A result as JSON can hold it."""
    content = result._asdict()
    content['scores'] = [float(score) for score in result.scores]
    return content


def result_file(args: argparse.Namespace, runner: Runner,
                printer: Printer) -> ResultFile:
    """Where the results go."""

    def content(rows: List[Dict[str, Any]], complete: bool) -> Dict[str, Any]:
        return dict(
            policy=dict(
                thresholds=runner.policy.thresholds,
                criterion=runner.policy.criterion,
                temperature=runner.policy.temperature),
            runtime=args.runtime,
            precision=args.precision,
            batch_size=args.batch_size,
            complete=complete,
            milliseconds=printer.times(),
            results=[row for row in rows if 'error' not in row],
            broken=[row for row in rows if 'error' in row])

    return ResultFile(args.out, COLUMNS, content)


def classify(args: argparse.Namespace) -> int:
    """Classify, print and write what the command line names.

    Args:
        args (Namespace): The command line.

    Returns:
        int: 0, or 1 if there are no results.

    Raises:
        ImportError: If a library is missing.
        OSError: If a file is missing or cannot be written.
        ValueError: If something given does not fit.
    """
    images, broken = find_files(args.images, args.on_broken)
    runner = Runner.load(args.folder, args.runtime, args.threads,
                         args.precision, args.thresholds)
    runner.preprocessing.max_pixels = args.max_pixels
    printer = Printer(images, args.batch_size, args.quiet)
    out = result_file(args, runner, printer)
    try:
        with out:

            def add_broken(entries: Sequence[Broken]) -> None:
                for entry in entries:
                    printer.broken(entry)
                    out.add(dict(path=entry.path, error=entry.reason))

            add_broken(broken)
            for done in classify_files(runner, images, args.batch_size,
                                       args.on_broken):
                add_broken(done.broken)
                for result in done.results:
                    out.add(as_json(result))
                printer.batch(done)
    finally:
        printer.summary(runner.manifest)
        if out.written:
            printer.say(f'wrote {args.out}')
    if not printer.results:
        raise ValueError(f'none of the files could be classified; the first: '
                         f'{printer.skipped[0].reason}')
    return 0


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Classify what the command line names.

    Args:
        argv (Sequence[str], optional): Arguments. Defaults to None, those of
            the process.

    Returns:
        int: 0, also where some files were passed over; 1 if something given
        does not fit or nothing could be classified; 130 if it was stopped.
    """
    args = parse_args(argv)
    try:
        with stoppable():
            return classify(args)
    except KeyboardInterrupt:
        print('error: stopped before the end', file=sys.stderr)
        return INTERRUPTED
    except (OSError, ValueError, ImportError, MemoryError,
            RuntimeError) as error:
        print(
            f'error: {printable(one_line(error), sys.stderr)}',
            file=sys.stderr)
        return 1


if __name__ == '__main__':
    sys.exit(main())
