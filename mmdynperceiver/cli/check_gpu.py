# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Check your GPU: whether everything computes right on it, and how fast.

    mmdynperceiver check-gpu --out gpu.json --minutes 5

It needs torch and torchvision; parts that need more packages say so where
these are missing. Results are written after each part, and the same command
goes on where the time was up. The exit status is 1 if a part failed or a
result is wrong; a missed target of speed is printed only.
"""
import argparse
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Dict, List

import torch

from ..benchmark.device_check import correctness, speed
from ..benchmark.device_check.parts import (NotRun, Part, Settings, passed,
                                            row, run_parts)
from ..benchmark.latency import describe_machine
from ..hosts.device import use_device
from ..version import __version__

__all__ = ['main', 'parse_args']

# Of a checkout, which has the tests.
ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / 'tests'
# They train, evaluate and resume; mmengine takes a GPU where there is one.
HOST_TESTS = {
    'mmpretrain': 'test_tools/test_train.py',
    'mmaction': 'test_recognition/test_runner.py',
    'mmdet': 'test_detection/test_runner.py'
}


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--device', default='cuda', help='what to check (default: cuda)')
    parser.add_argument(
        '--out',
        default='gpu.json',
        help='results so far, which a further run goes on with; a picture '
        'goes beside it (default: gpu.json)')
    parser.add_argument(
        '--minutes',
        type=float,
        default=5.,
        help='begin no part that may take longer than what is left of this '
        '(default: 5)')
    parser.add_argument(
        '--parts',
        nargs='+',
        metavar='WORD',
        help='only the parts with one of these words in their names')
    parser.add_argument(
        '--quick',
        action='store_true',
        help='tiny networks: whether this script runs, not how fast')
    args = parser.parse_args()
    if args.minutes <= 0:
        parser.error(f'--minutes must be positive, got {args.minutes:g}')
    if not args.out.endswith('.json') or \
            not os.path.isdir(os.path.dirname(args.out) or '.'):
        parser.error(f'--out must be a .json file in a folder that exists, '
                     f'got {args.out!r}')
    return args


def list_parts(quick: bool) -> List[Part]:
    """All parts, the most telling first."""
    archs = ['resnet18'] if quick else ['regnety-800mf', 'mobilenetv3-large']
    sizes = (1, 4) if quick else (1, 8, 32, 128)
    parts = [
        Part('parity with the published implementation',
             correctness.check_parity, 30),
        Part('modes: the same logits', correctness.check_modes, 60),
        Part('exits: really stopping is replaying', correctness.check_replay,
             60),
        Part('training', correctness.check_training, 30),
        Part('data-parallel training', correctness.check_distributed, 20)
    ]
    parts += [
        Part(f'speed of {arch}, batch {size}', speed.measure_batch,
             40 + size / 2, dict(arch=arch, batch=size)) for arch in archs
        for size in sizes
    ]
    return parts + [
        Part('speed of a training step', speed.measure_step, 30),
        Part('ONNX Runtime', speed.measure_onnxruntime, 30),
        Part('hosts', check_hosts, 90),
        *(Part(f'speed of {archs[0]}, compiled, batch {size}',
               speed.measure_compiled, 120, dict(arch=archs[0], batch=size))
          for size in (1, sizes[-1]))
    ]


def check_hosts(settings: Settings) -> List[Dict[str, Any]]:
    """The tests that train in the hosts."""
    present = [host for host in HOST_TESTS if find_spec(host)]
    if not present or not TESTS.is_dir() or find_spec('pytest') is None:
        raise NotRun('it takes a checkout with pytest, and mmpretrain, '
                     'mmaction2 or mmdet')
    if settings.quick:
        raise NotRun('these tests run by themselves')
    rows = []
    for host in present:
        left = max(1., settings.deadline - time.monotonic())
        result = subprocess.run([
            sys.executable, '-m', 'pytest', '-q', '-x',
            str(TESTS / HOST_TESTS[host])
        ],
                                cwd=ROOT,
                                stdin=subprocess.DEVNULL,
                                capture_output=True,
                                text=True,
                                timeout=left)
        if result.returncode:
            raise RuntimeError(f'{host}: {result.stdout[-2000:]}')
        rows.append(row(f'{host}: its tests', result.returncode, 0))
    return rows


def describe(device: torch.device, quick: bool) -> Dict[str, Any]:
    """What results depend on."""
    packages = ['torchvision', 'numpy'] + [
        name for name in ('onnxruntime', 'triton', 'mmengine', 'mmpretrain')
        if find_spec(name)
    ]
    found = describe_machine(device, packages)
    if device.type == 'cuda':
        properties = torch.cuda.get_device_properties(device)
        found.update(
            cuda=torch.version.cuda,
            cudnn=torch.backends.cudnn.version(),
            capability='.'.join(
                map(str, (properties.major, properties.minor))),
            memory_gib=round(properties.total_memory / 2**30))
    return dict(found, mmdynperceiver=__version__, quick=quick)


def print_rows(found: Dict[str, Any]) -> int:
    """Print the table; how much is wrong."""
    wrong = 0
    for name, part in found['parts'].items():
        print(f'\n{name}: {part["state"]}'
              f'{": " + part["reason"] if "reason" in part else ""}')
        wrong += part['state'] == 'failed'
        for one in part.get('rows', ()):
            limit, mark = '', ''
            if one['limit'] is not None:
                good = passed(one)
                limit = f'at most {one["limit"]:g}'
                mark = 'yes' if good else 'MISSED' if one['target'] else \
                    'WRONG'
                wrong += not good and not one['target']
            print(f'  {one["what"]:<64} {one["value"]:>11.4g}  '
                  f'{limit:<16} {mark}'.rstrip())
    return wrong


def draw(found: Dict[str, Any], path: str) -> bool:
    """Draw the time to each exit in each mode, if there is matplotlib."""
    timed = [[one for one in part['rows'] if 'exits' in one]
             for part in found['parts'].values() if part['state'] == 'done']
    timed = [rows for rows in timed if rows]
    if not timed or find_spec('matplotlib') is None:
        return False
    from matplotlib.figure import Figure
    figure = Figure(figsize=(6 * len(timed), 5), layout='constrained')
    panels = figure.subplots(1, len(timed), squeeze=False)[0]
    for panel, rows in zip(panels, timed):
        for one in rows:
            exits = one['exits']
            if len(exits) > 1:
                panel.plot(range(len(exits)), exits, 'o-', label=one['label'])
            else:
                panel.axhline(exits[0], ls=':', lw=1, color='grey')
                panel.annotate(
                    f'{one["label"]}', (0, exits[0]), fontsize=6, va='bottom')
        panel.set(
            title=f'batch {rows[0]["batch"]}, {found["machine"]["device"]}',
            xlabel='exit',
            ylabel='ms of a batch',
            yscale='log',
            xticks=range(4))
        panel.legend(fontsize=7)
    figure.savefig(path, dpi=120)
    return True


def main() -> int:
    """Run the parts, print and draw."""
    args = parse_args()
    device = torch.device(use_device(args.device))
    settings = Settings(
        device, args.quick,
        time.monotonic() + 60 * args.minutes,
        str(TESTS) if (TESTS / 'data' / 'parity').is_dir() else None)
    parts = [
        part for part in list_parts(args.quick)
        if not args.parts or any(word in part.name for word in args.parts)
    ]
    found = run_parts(parts, settings, describe(device, args.quick), args.out,
                      lambda line: print(line, flush=True))
    wrong = print_rows(found)
    print(f'\nwrote {args.out}')
    picture = args.out[:-len('.json')] + '.png'
    if draw(found, picture):
        print(f'wrote {picture}')
    left = [n for n, p in found['parts'].items() if p['state'] == 'no time']
    if left:
        print(f'{len(left)} parts are left: run the same command again')
    return 1 if wrong else 0
