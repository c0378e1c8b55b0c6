# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Classify images or videos, or detect, with an exported network.

Run ``python -m mmdynperceiver.deploy FOLDER IMAGES...``.
"""
import argparse
import os
import sys
from itertools import chain
from typing import Any, Dict, List, Optional, Sequence

from ..datasets.image_files import find_files
from ..io.result_file import (ENDINGS, ResultFile, add_result_options,
                              exit_status, positive, stoppable)
from .drift import DriftMonitor, add_monitor_options
from .manifest import Manifest
from .opening import class_for
from .printing import Printer
from .sessions import PRECISIONS, RUNTIMES
from .stream import Classified, classify_files
from .video import preprocessing_class

# What a table holds of a result.
COLUMNS = ('path', 'label', 'name', 'score', 'exit_index', 'confidence',
           'macs', 'milliseconds', 'preparing_milliseconds', 'error')
DETECTION_COLUMNS = ('path', 'labels', 'scores', 'boxes', *COLUMNS[4:])


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='python -m mmdynperceiver.deploy',
        description='Classify images or videos, or detect, with a network '
        'that tools/export.py wrote, leaving at the first exit that is sure.')
    parser.add_argument('folder', help='folder that tools/export.py wrote')
    parser.add_argument(
        'images', nargs='+', help='files, or folders, of images or videos')
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
        '--batch-size', type=positive, default=1, help='(default: 1)')
    parser.add_argument(
        '--threads',
        type=positive,
        help='threads (default: one for each core)')
    parser.add_argument(
        '--streams',
        type=positive,
        default=1,
        help='decode and run so many images, or batches, at the same time, '
        'with one thread each: more images in a second (default: 1)')
    parser.add_argument(
        '--thresholds',
        nargs='+',
        type=float,
        help='instead of the exported ones, one for each exit but the last; '
        'for the same criterion')
    add_monitor_options(parser.add_argument, 'the next safer thresholds')
    parser.add_argument(
        '--max-pixels',
        type=positive,
        help='refuse larger images before they are decoded (default: '
        '178956970, or what MMDYNPERCEIVER_MAX_PIXELS says)')
    parser.add_argument(
        '--quiet', action='store_true', help='print no line for each image')
    add_result_options(parser)
    args = parser.parse_args(argv)
    _check_monitor(parser, args)
    _check_out(parser, args.out)
    return args


def _check_monitor(parser: argparse.ArgumentParser,
                   args: argparse.Namespace) -> None:
    """Refuse what there is nothing to watch of."""
    if args.fall_back and args.monitor is None:
        parser.error('--fall-back is what --monitor does: give a share')
    if args.monitor is not None and args.thresholds is not None:
        parser.error('--monitor watches the thresholds that were certified: '
                     'leave out --thresholds')


def _check_out(parser: argparse.ArgumentParser, out: Optional[str]) -> None:
    """Refuse a file that cannot be written, before there are results."""
    folder = os.path.dirname(out or '') or '.'
    if out and not out.endswith(ENDINGS):
        parser.error(f'--out must end with {", ".join(ENDINGS)}, got {out!r}')
    if not os.path.isdir(folder):
        parser.error(f'there is no folder for the file {out!r}')
    if out and (os.path.isdir(out) or not os.access(folder, os.W_OK)):
        parser.error(f'cannot write the file {out!r}: it is a folder, or its '
                     f'folder is not writable')


def result_file(args: argparse.Namespace, runner: Any,
                printer: Printer) -> ResultFile:
    """Where the results go."""

    def content(rows: List[Dict[str, Any]], complete: bool) -> Dict[str, Any]:
        policy = runner.policy
        return dict(
            policy=dict(thresholds=policy.thresholds, **policy.settings),
            monitor=runner.monitor and runner.monitor.status(),
            runtime=args.runtime,
            precision=args.precision,
            batch_size=args.batch_size,
            streams=args.streams,
            complete=complete,
            milliseconds=printer.times(),
            results=[row for row in rows if 'error' not in row],
            broken=[row for row in rows if 'error' in row])

    detects = runner.manifest.detection is not None
    return ResultFile(args.out, DETECTION_COLUMNS if detects else COLUMNS,
                      content)


def classify(args: argparse.Namespace) -> None:
    """Classify, print and write what the command line names.

    Raises:
        ImportError: If a library is missing.
        OSError: If a file is missing or cannot be written.
        ValueError: If something given does not fit, or there are no results.
    """
    manifest = Manifest.read(args.folder)
    if manifest.detection is not None and args.monitor is not None:
        raise ValueError(f'{args.folder!r} holds a detector, for which there '
                         f'is no --monitor')
    kind = preprocessing_class(manifest.preprocessing).files
    images, broken = find_files(args.images, args.on_broken, kind)
    runner = class_for(manifest).load(args.folder, args.runtime, args.threads,
                                      args.precision, args.thresholds,
                                      args.streams)
    if args.monitor is not None:
        runner.monitor = DriftMonitor.of_certificate(
            manifest.certificate, args.fall_back, share=args.monitor)
    runner.preprocessing.max_pixels = args.max_pixels
    batches = classify_files(runner, images, args.batch_size, args.on_broken)
    printer = Printer(images, args.batch_size, args.quiet, kind.noun)
    out = result_file(args, runner, printer)
    try:
        with out:
            for done in chain([Classified([], broken, 0.)], batches):
                for entry in done.broken:
                    printer.broken(entry)
                    out.add(dict(path=entry.path, error=entry.reason))
                for result in done.results:
                    out.add(result.row())
                printer.batch(done)
    finally:
        printer.summary(runner.manifest)
        if runner.monitor is not None:
            for line in runner.monitor.summary():
                printer.say(line)
        if out.written:
            printer.say(f'wrote {args.out}')
    if not printer.results:
        raise ValueError(f'none of the files could be classified; the first: '
                         f'{printer.skipped[0].reason}')


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Classify what the command line names.

    Returns:
        int: 0, also where some files were passed over; 1 if something given
        does not fit or nothing could be classified; 130 if it was stopped.
    """
    args = parse_args(argv)

    def run() -> None:
        with stoppable():
            classify(args)

    return exit_status(run, 'stopped before the end')


if __name__ == '__main__':
    sys.exit(main())
