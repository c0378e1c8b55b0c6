# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Train six networks of one trunk, calibrate them and time them.

Run ``python -m projects.cifar10_evidence --help``. Whatever is there already
is not done again, so a run that was stopped goes on.
"""
import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

import mmpretrain

from .plot import draw
from .table import exit_table, leaving_table

__all__ = ['NETWORKS', 'Experiment', 'add_options', 'main', 'run']

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# The configs, and what they are called in the picture.
LABELS = {
    'latency-first': 'latency-first',
    'latency-first-late': 'the same, first_x2z=2',
    'static': 'MobileNet-V2',
    'dyn-perceiver': 'Dyn-Perceiver',
    'shallow': 'MobileNet-V2, fewer blocks',
    'multi-exit': 'classic multi-exit'
}
NETWORKS = tuple(LABELS)
STATIC = ('static', 'shallow')
MODES = ('onnxruntime', 'openvino', 'openvino-bf16')


def add_options(parser: argparse.ArgumentParser, work_dir: str,
                networks: Sequence[str], modes: Sequence[str]) -> None:
    """Add the options of what is trained, on what, and how it is timed."""
    parser.add_argument(
        '--data', required=True, help='folder of train/ and test/')
    parser.add_argument('--work-dir', type=Path, default=work_dir)
    parser.add_argument('--networks', nargs='+', default=networks)
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument(
        '--left-out',
        type=int,
        default=5000,
        help='training images that are not trained on (default: 5000)')
    parser.add_argument(
        '--held-out',
        type=int,
        default=5000,
        help='how many of these thresholds are solved on (default: 5000)')
    parser.add_argument('--epochs', type=int, default=10, help='(default: 10)')
    parser.add_argument(
        '--runs', type=int, default=100, help='timed runs (default: 100)')
    parser.add_argument(
        '--threads', type=int, default=1, help='of the runtimes (default: 1)')
    parser.add_argument(
        '--clock',
        choices=('wall', 'cpu'),
        default='wall',
        help='see tools/benchmark.py (default: wall)')
    parser.add_argument(
        '--modes', nargs='+', default=modes, help='runtimes to time')


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Read the command line, or words of it."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--weights',
        required=True,
        help="torchvision's mobilenet_v2-b0353104.pth")
    add_options(parser, 'work_dirs/evidence', NETWORKS, MODES)
    parser.add_argument(
        '--size', type=int, default=96, help='pixels (default: 96)')
    return parser.parse_args(argv)


class Experiment:
    """What is made of the arguments.

    Attributes:
        here (Path): Folder of the configs.
        static (tuple[str]): Which networks have one exit.
    """

    here = HERE
    static: Tuple[str, ...] = STATIC

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.work = args.work_dir.resolve()
        self.data = os.path.abspath(args.data)
        self.weights = self.work / 'mobilenet_v2.pth'
        self.left_out = self.work / f'hold_out_train_{args.left_out}.txt'

    def options(self) -> List[str]:
        """What changes in the configs."""
        args, pipeline = self.args, 'dataset.pipeline'
        return [
            '--cfg-options', f'data_root={self.data}',
            f'train_dataloader.dataset.exclude={self.left_out}',
            f'train_dataloader.{pipeline}.3.scale={args.size}',
            f'val_dataloader.{pipeline}.1.scale={args.size}',
            f'test_dataloader.{pipeline}.1.scale={args.size}',
            f'train_cfg.max_epochs={args.epochs}',
            f'model.backbone.arch.init_cfg.checkpoint={self.weights}'
        ]

    def prepare(self) -> None:
        """Convert the weights; list the images that are left out."""
        self.work.mkdir(parents=True, exist_ok=True)
        if not self.weights.exists():
            tool = Path(mmpretrain.__file__).parent / \
                '.mim/tools/model_converters/mobilenetv2_to_mmpretrain.py'
            _run([tool, os.path.abspath(self.args.weights), self.weights])
        self.hold_out()

    def hold_out(self) -> None:
        """List the images that are left out."""
        if not self.left_out.exists():
            _run([
                'tools/calibrate.py', self.here / 'static.py', '--hold-out',
                self.args.left_out, '--work-dir', self.work, '--cfg-options',
                f'data_root={self.data}'
            ])

    def checkpoint(self, network: str, seed: int) -> Path:
        """Where the training of one network with one seed ends."""
        folder = self.work / f'{network}-{seed}'
        return folder / f'epoch_{self.args.epochs}.pth'

    def train(self, network: str, seed: int) -> Path:
        """Train one network with one seed; its checkpoint."""
        checkpoint = self.checkpoint(network, seed)
        if not checkpoint.exists():
            _run([
                'tools/train.py', self.here / f'{network}.py', '--resume',
                '--no-validate', '--work-dir', checkpoint.parent,
                *self.options(), f'randomness.seed={seed}'
            ])
        return checkpoint

    def evaluate(self, network: str, checkpoint: Path) -> None:
        """Test the checkpoint; with several exits, solve thresholds before,
        on the held-out images."""
        folder = checkpoint.parent
        if network in self.static:
            if not (folder / 'test.json').exists():
                _run([
                    'tools/test.py', self.here / f'{network}.py', checkpoint,
                    '--work-dir', folder, '--out', folder / 'test.json',
                    *self.options()
                ])
        elif not (folder / 'report/curve.csv').exists():
            _run([
                'tools/calibrate.py', self.here / f'{network}.py', checkpoint,
                '--budget-macs', '60%', '--split', 'train', '--hold-out',
                self.args.held_out, '--test', '--work-dir', folder, '--report',
                folder / 'report', '--out', folder / 'point.json',
                *self.options()
            ])

    def benchmark(self, networks: Sequence[str]) -> Path:
        """Time the first seed of each network, all in turn."""
        args, out = self.args, self.work / 'times.json'
        (first, weights), *others = [(self.here / f'{name}.py',
                                      self.checkpoint(name, args.seeds[0]))
                                     for name in networks]
        against = [part for other in others for part in ('--against', *other)]
        if not out.exists():
            _run([
                'tools/benchmark.py', first, weights, *against, '--modes',
                *args.modes, '--size', args.size, args.size, '--runs',
                args.runs, '--threads', args.threads, '--clock', args.clock,
                '--work-dir', self.work, '--out', out
            ])
        return out


def _run(command: Sequence[object]) -> None:
    """Run a tool of this repository; where it fails, so does this."""
    environment = dict(os.environ)
    paths = [str(ROOT), environment.get('PYTHONPATH', '')]
    environment['PYTHONPATH'] = os.pathsep.join(filter(None, paths))
    line = [sys.executable, *map(str, command)]
    print(' '.join(line[1:]), flush=True)
    subprocess.run(line, cwd=ROOT, env=environment, check=True)


def run(experiment: Experiment) -> None:
    """Train, calibrate and test what is not done yet."""
    experiment.prepare()
    for seed in experiment.args.seeds:
        for network in experiment.args.networks:
            checkpoint = experiment.train(network, seed)
            experiment.evaluate(network, checkpoint)


def main() -> None:
    """Do what is not done yet, then draw."""
    args = parse_args()
    experiment = Experiment(args)
    run(experiment)
    times = experiment.benchmark(args.networks)
    picture = experiment.work / 'accuracy_ms.png'
    lines = {LABELS.get(one, one): [one] for one in args.networks}
    draw(experiment.work, lines, args.seeds, picture, times)
    tables = [exit_table(experiment.work, args.networks, args.seeds, times)]
    if 'static' in args.networks:
        tables.append(
            leaving_table(experiment.work, args.networks, args.seeds, times,
                          'static'))
    print(*tables, sep='\n')
    print(f'wrote {picture}')


if __name__ == '__main__':
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
