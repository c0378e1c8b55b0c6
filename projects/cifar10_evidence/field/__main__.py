# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Train networks of several families from scratch, calibrate them, draw them.

Run ``python -m projects.cifar10_evidence.field --help``. Whatever is there
already is not done again, so a run that was stopped goes on.
"""
import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
from matplotlib.figure import Figure

from mmdynperceiver.report import read_curves
from mmdynperceiver.report.figure import exit_colour, save_figure
from ..__main__ import Experiment, add_options, run

__all__ = ['NETWORKS', 'FieldExperiment', 'draw', 'main']

STATIC = ('static-narrow', 'static', 'static-wide')
# Of one exit: there are no thresholds to solve.
ONE_EXIT = (*STATIC, 'conv-aig', 'skipnet')
SWITCHES = ('dyn-perceiver-imta', 'dyn-perceiver-boosted',
            'dyn-perceiver-mixed', 'dyn-perceiver-l2w')
NETWORKS = (*ONE_EXIT, 'multi-exit', 'dyn-perceiver', *SWITCHES, 'msdnet',
            'ranet', 'cascade')


class FieldExperiment(Experiment):
    """Networks without pretrained weights, at the size of the images."""

    here = Path(__file__).resolve().parent
    static = ONE_EXIT

    def options(self) -> List[str]:
        """What changes in the configs."""
        return [
            '--cfg-options', f'data_root={self.data}',
            f'train_dataloader.dataset.exclude={self.left_out}',
            f'train_cfg.max_epochs={self.args.epochs}'
        ]

    def prepare(self) -> None:
        """List the images that are left out."""
        self.work.mkdir(parents=True, exist_ok=True)
        self.hold_out()


def points(folder: Path) -> List[Dict[str, float]]:
    """What a trained network reaches on the test images: ``macs`` and
    ``top1``, leaving early by thresholds of held-out images."""
    curve = folder / 'report/curve.csv'
    if curve.exists():
        found = next(
            one for one in read_curves(curve)
            if one.name.endswith('search, test'))
        return [
            dict(macs=macs, top1=top1)
            for macs, top1 in zip(found.macs, found.accuracy)
        ]
    metrics = json.loads((folder / 'test.json').read_text())['metrics']
    return [dict(macs=metrics['dynamic/macs'], top1=metrics['dynamic/top1'])]


def draw(work: Path, networks: Sequence[str], seeds: Sequence[int],
         path: Path) -> Figure:
    """Draw mean and standard deviation over the seeds, and write the means
    beside the picture as a CSV file."""
    figure = Figure((6, 4), layout='constrained')
    axes: Any = figure.subplots()
    rows = []
    for number, network in enumerate(networks):
        found = [points(work / f'{network}-{seed}') for seed in seeds]
        count = min(map(len, found))
        picked = [[
            one[k] for k in np.linspace(0, len(one) - 1, count, dtype=int)
        ] for one in found]
        x, y = (
            np.array([[p[key] for p in one] for one in picked])
            for key in ('macs', 'top1'))
        spread = y.std(0, ddof=1) if len(found) > 1 else np.zeros(count)
        axes.errorbar(
            x.mean(0) / 1e6,
            y.mean(0),
            spread,
            fmt='o-' if count > 1 else 's',
            markersize=3 if count > 1 else 7,
            color=exit_colour(number),
            label=network)
        rows += [[network, *map(float, row)]
                 for row in zip(x.mean(0), y.mean(0), spread)]
    axes.set(xlabel='mean MACs of an image (M)', ylabel='top-1, test (%)')
    axes.grid(alpha=0.3)
    axes.legend(fontsize='small')
    with open(path.with_suffix('.csv'), 'w', newline='') as file:
        csv.writer(file).writerows([['name', 'macs', 'top1', 'deviation'],
                                    *rows])
    return save_figure(figure, path)


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Do what is not done yet, then draw."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    add_options(parser, 'work_dirs/field', NETWORKS)
    args = parser.parse_args(argv)
    experiment = FieldExperiment(args)
    run(experiment)
    picture = experiment.work / 'accuracy_macs.png'
    draw(experiment.work, args.networks, args.seeds, picture)
    print(f'wrote {picture}')


if __name__ == '__main__':
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
