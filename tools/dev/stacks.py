# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Run tests on other stacks than the pinned one, one environment at a time.

    python tools/dev/stacks.py --torch 2.15.0 --python 3.11 3.14 \
        --family openmmlab onedl --out stacks.md

Each stack is what a user gets: the newest of everything but torch, made by uv
in a folder that is removed afterwards (5 GB with CUDA's libraries; see
--torch-index). It prints a table in Markdown. The exit status is 1 if a stack
could not be installed or a test failed; a Python that is not here is noted.
"""
import argparse
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

ROOT = Path(__file__).resolve().parents[2]
# Where other versions break things: the core, its networks in a host, patches
# of the hosts, and one training after another. Some minutes of a core.
TESTS = ('tests/test_core/test_network.py', 'tests/test_core/test_parity.py',
         'tests/test_core/test_accelerate/test_captured.py',
         'tests/test_classification/test_classifier.py',
         'tests/test_classification/test_head.py', 'tests/test_compat',
         'tests/test_tools/test_train.py')
DETECTION = ('tests/test_detection', )
SHARED = ('pytest', 'rich', 'jinja2', 'scikit-learn', 'timm', 'onnx',
          'onnxruntime', 'matplotlib', 'opencv-python-headless', 'setuptools')
FAMILIES = {
    'openmmlab': ('mmengine', 'mmcv-lite', 'mmpretrain'),
    'onedl': ('onedl-mmengine', 'onedl-mmcv', 'onedl-mmpretrain')
}
# The detectors, and what build_mmcv.py takes to compile their operators, in
# place of a distribution without.
DETECTORS = {
    'openmmlab': ('mmdet', (), 'mmcv-lite'),
    'onedl': ('onedl-mmdetection', ('--onedl', ), 'onedl-mmcv')
}
COLUMNS = ('torch', 'torchvision', 'numpy', 'Python', 'family', 'passed',
           'failed', 'skipped', 'installed in', 'note')


class Stack(NamedTuple):
    """What to install: versions of torch and Python, and whose hosts."""

    torch: str
    python: str
    family: str


class Failure(Exception):
    """A command failed; its last lines."""


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--torch', nargs='+', default=['2.4.1', '2.11.0', '2.15.0'])
    parser.add_argument(
        '--python',
        nargs='+',
        default=['3.10', '3.11', '3.12', '3.13', '3.14'],
        help='as uv finds them, also by path')
    parser.add_argument(
        '--family', nargs='+', choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument(
        '--tests', nargs='+', default=list(TESTS), help='files and folders')
    parser.add_argument(
        '--detection',
        action='store_true',
        help='install the detectors of the family too, with the operators '
        'that tools/dev/build_mmcv.py compiles for each torch and Python '
        '(once: it keeps the wheels), and run their tests')
    parser.add_argument(
        '--torch-index',
        metavar='URL',
        help="one more index for torch, such as PyTorch's for CPUs")
    parser.add_argument(
        '--folder', help='where environments go (default: a temporary one)')
    parser.add_argument('--out', help='write the table to this file, too')
    return parser.parse_args()


def run(command: Sequence[str], **variables: str) -> str:
    """Run a command in the checkout; what it printed."""
    result = subprocess.run(
        command,
        cwd=ROOT,
        env={
            **os.environ, 'PYTHONPATH': str(ROOT),
            **variables
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors='replace')
    if result.returncode:
        raise Failure(result.stdout[-3000:])
    return result.stdout


def install(stack: Stack, python: str, args: argparse.Namespace) -> None:
    """Install a stack as its users do: torch, then its hosts."""
    excluded = str(ROOT / 'requirements' / 'excludes.txt')
    base = ['uv', 'pip', 'install', '--python', python, '--excludes', excluded]
    if args.torch_index:
        base += [
            '--extra-index-url', args.torch_index, '--index-strategy',
            'unsafe-best-match'
        ]
    pinned = f'torch=={stack.torch}'
    run([*base, pinned, 'torchvision', *SHARED, 'wheel', 'ninja', 'psutil'])
    if not args.detection:
        run([*base, pinned, *FAMILIES[stack.family]])
        return
    detector, options, without = DETECTORS[stack.family]
    run([
        *base, pinned, *FAMILIES[stack.family], detector, '-r',
        'requirements/build.txt'
    ])
    build = [python, 'tools/dev/build_mmcv.py', *options]
    wheel = run(build).splitlines()[-1]
    run(['uv', 'pip', 'uninstall', '--python', python, without])
    run([*base, '--no-deps', wheel])


def versions(python: str) -> Dict[str, str]:
    """What was installed."""
    code = ('import json, platform; from importlib.metadata import version; '
            'print(json.dumps(dict({n: version(n) for n in ("torch", '
            '"torchvision", "numpy")}, Python=platform.python_version())))')
    return json.loads(run([python, '-c', code]).splitlines()[-1])


def count(output: str) -> Optional[Tuple[int, int, int]]:
    """How many tests passed, failed (or did not begin) and were skipped."""
    found = re.findall(r'^.*\b\d+ (?:passed|failed|error|skipped)\b.* in .*$',
                       output, re.MULTILINE)
    if not found:
        return None

    def number(word: str) -> int:
        return sum(map(int, re.findall(rf'(\d+) {word}', found[-1])))

    return number('passed'), number('failed') + number('error'), number(
        'skipped')


def try_stack(stack: Stack, folder: Path,
              args: argparse.Namespace) -> Dict[str, str]:
    """Install a stack and run the tests; a row of the table."""
    row = dict(torch=stack.torch, Python=stack.python, family=stack.family)
    python = str(folder / 'bin' / 'python')
    try:
        run(['uv', 'venv', '--python', stack.python, str(folder)])
    except Failure:
        return dict(row, note=f'no Python {stack.python} here')
    start = time.monotonic()
    try:
        install(stack, python, args)
        row.update(versions(python))
    except Failure as error:
        return dict(
            row, failed='all', note='not installed: ' + last_line(str(error)))
    row['installed in'] = f'{time.monotonic() - start:.0f} s'
    tests = [*args.tests, *(DETECTION if args.detection else ())]
    try:
        output = run(
            [python, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', *tests],
            OMP_NUM_THREADS='1')
    except Failure as error:
        output = str(error)
        print(output, file=sys.stderr)
    counts = count(output)
    if counts is None:
        return dict(row, failed='all', note=last_line(output))
    for name, number in zip(('passed', 'failed', 'skipped'), counts):
        row[name] = str(number)
    failed = re.findall(r'^(?:FAILED|ERROR) (\S+)', output, re.MULTILINE)
    return dict(row, note=', '.join(failed[:3]))


def last_line(text: str) -> str:
    """The end of what a command said, for a cell."""
    return (text.strip().splitlines() or [''])[-1].replace('|', '/')[:120]


def table(rows: List[Dict[str, str]]) -> str:
    """All rows in Markdown."""
    lines = [COLUMNS, ('---', ) * len(COLUMNS)] + [
        tuple(row.get(name, '') for name in COLUMNS) for row in rows
    ]
    return ''.join(f'| {" | ".join(line)} |\n' for line in lines)


def main() -> int:
    """Try all stacks, one after the other."""
    args = parse_args()
    if shutil.which('uv') is None:
        sys.exit('uv is needed: pip install uv')
    stacks = [
        Stack(*each)
        for each in itertools.product(args.torch, args.python, args.family)
    ]
    rows: List[Dict[str, str]] = []
    for stack in stacks:
        print(
            f'torch {stack.torch}, Python {stack.python}, {stack.family}',
            file=sys.stderr,
            flush=True)
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            rows.append(try_stack(stack, Path(folder) / 'venv', args))
        if args.out:
            Path(args.out).write_text(table(rows), encoding='utf-8')
    print(table(rows), end='')
    return 1 if any(row.get('failed', '0') != '0' for row in rows) else 0


if __name__ == '__main__':
    sys.exit(main())
