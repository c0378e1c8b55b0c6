# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Build a page on which an exported network runs in the browser."""
import argparse
import sys
from collections.abc import Sequence

from mmdynperceiver.cli.run import run_tool
from .build import VERSION, build_page


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line, by default that of the process."""
    parser = argparse.ArgumentParser(
        prog='python -m projects.web_demo', description=__doc__)
    parser.add_argument('exported', help='folder that tools/export.py wrote')
    parser.add_argument('out', help='new folder for the page')
    parser.add_argument(
        '--onnxruntime-web',
        metavar='DIR',
        help='the package, such as node_modules/onnxruntime-web (default: '
        f'version {VERSION}, downloaded by npm)')
    parser.add_argument(
        '--samples',
        nargs='+',
        default=(),
        metavar='IMAGE',
        help='images to offer on the page')
    return parser.parse_args(argv)


def main() -> None:
    """Build it, and say how to look at it."""
    args = parse_args()
    manifest = build_page(args.exported, args.out, args.onnxruntime_web,
                          args.samples)
    print(f'wrote {args.out}: {manifest.num_exits} segments, '
          f'{len(manifest.classes)} classes')
    print(f'look at it: {sys.executable} -m http.server --bind 127.0.0.1 '
          f'--directory {args.out} 8000, then http://127.0.0.1:8000/')


if __name__ == '__main__':
    run_tool(main)
