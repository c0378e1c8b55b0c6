# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Classify images with an exported network.

Run ``python -m mmdynperceiver.deploy FOLDER IMAGES...``.
"""
import argparse
import os
import statistics
import sys
from typing import List, Optional, Sequence

from ..files import write_json
from .preprocessing import list_images
from .runner import Result, Runner
from .sessions import PRECISIONS, RUNTIMES


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
        '--out', metavar='FILE.json', help='write all results to this file')
    args = parser.parse_args(argv)
    for name in ('batch_size', 'threads'):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f'--{name.replace("_", "-")} must be at least 1, '
                         f'got {value}')
    if args.out and not os.path.isdir(os.path.dirname(args.out) or '.'):
        parser.error(f'there is no folder for the file {args.out!r}')
    return args


def find_images(paths: Sequence[str]) -> List[str]:
    """Files, and the images in folders, in the order given."""
    found: List[str] = []
    for path in paths:
        found += list_images(path) if os.path.isdir(path) else [path]
    return found


def print_results(results: Sequence[Result], num_exits: int) -> None:
    """Print a line for each image, and a summary."""
    width = max(len(result.path or '') for result in results)
    print(f'{"image":{width}}  class, score, exit, ms')
    for result in results:
        print(f'{result.path:{width}}  {result.name} {result.score:.3f}, '
              f'exit {result.exit_index}, {result.milliseconds:.2f}')
    shares = [
        sum(result.exit_index == k for result in results) / len(results)
        for k in range(num_exits)
    ]
    print(f'{len(results)} images; '
          f'left at exits 0 to {num_exits - 1}: '
          f'{" / ".join(f"{share:.0%}" for share in shares)}; '
          f'mean {statistics.mean(r.macs for r in results) / 1e6:.1f} M MACs, '
          f'{statistics.mean(r.milliseconds for r in results):.2f} ms and '
          f'{statistics.mean(r.preparing_milliseconds for r in results):.2f} '
          f'ms for preparing the image')


def as_json(result: Result) -> dict:
    """A result as JSON can hold it."""
    content = result._asdict()
    content['scores'] = [float(score) for score in result.scores]
    return content


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Classify what the command line names.

    Args:
        argv (Sequence[str], optional): Arguments. Defaults to None, those of
            the process.

    Returns:
        int: 0, or 1 if something given does not fit.
    """
    args = parse_args(argv)
    try:
        images = find_images(args.images)
        runner = Runner.load(args.folder, args.runtime, args.threads,
                             args.precision, args.thresholds)
        results = runner(images, args.batch_size)
        if args.out:
            content = dict(
                policy=dict(
                    thresholds=runner.policy.thresholds,
                    criterion=runner.policy.criterion,
                    temperature=runner.policy.temperature),
                runtime=args.runtime,
                precision=args.precision,
                batch_size=args.batch_size,
                results=[as_json(result) for result in results])
            write_json(args.out, content)
    except (OSError, ValueError, ImportError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    print_results(results, runner.manifest.num_exits)
    if args.out:
        print(f'wrote {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
