# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Train networks of several families from scratch, calibrate them, draw them.

Run ``python -m projects.cifar10_evidence.field --help``. Whatever is there
already is not done again, so a run that was stopped goes on.
"""
import argparse
import subprocess
import sys
from pathlib import Path
from typing import List, Optional, Sequence

from ..__main__ import Experiment, add_options, run
from ..plot import draw

__all__ = ['NETWORKS', 'FieldExperiment', 'main']

STATIC = ('static-narrow', 'static', 'static-wide')
# Of one exit: there are no thresholds to solve.
AIG = ('conv-aig-t040', 'conv-aig', 'conv-aig-t080')
SKIPPING = (*AIG, 'skipnet')  # Not exported, so not timed.
ONE_EXIT = (*STATIC, *SKIPPING)
# What is joined by a line in a picture.
FAMILIES = {
    'Dyn-Perceiver': ('dyn-perceiver', ),
    'static networks': STATIC,
    'classic multi-exit': ('multi-exit', ),
    'MSDNet': ('msdnet', ),
    'RANet': ('ranet', ),
    'resolution cascade': ('cascade', ),
    'ConvNet-AIG': AIG,
    'SkipNet': ('skipnet', )
}
TRAININGS = {
    'Dyn-Perceiver': ('dyn-perceiver', ),
    'mixed regime': ('dyn-perceiver-mixed', ),
    'gradient equilibrium': ('dyn-perceiver-imta', ),
    'the same, boosted': ('dyn-perceiver-boosted', ),
    'weights of samples': ('dyn-perceiver-l2w', )
}
NETWORKS = tuple(
    dict.fromkeys(
        one for networks in (*FAMILIES.values(), *TRAININGS.values())
        for one in networks))


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


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Do what is not done yet, then draw."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    add_options(parser, 'work_dirs/field', NETWORKS, ['onnxruntime'])
    parser.set_defaults(size=32)
    args = parser.parse_args(argv)
    experiment = FieldExperiment(args)
    run(experiment)
    timed = [name for name in args.networks if name not in SKIPPING]
    times = experiment.benchmark(timed) if timed else None
    for name, lines in (('families', FAMILIES), ('switches', TRAININGS)):
        trained = {
            label: [one for one in networks if one in args.networks]
            for label, networks in lines.items()
        }
        trained = {k: v for k, v in trained.items() if v}
        if trained:
            path = experiment.work / f'{name}.png'
            draw(experiment.work, trained, args.seeds, path, times, macs=True)
            print(f'wrote {path}')


if __name__ == '__main__':
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
