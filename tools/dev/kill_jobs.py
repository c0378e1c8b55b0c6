# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The programs that are killed, and what may be there afterwards."""
import importlib
import os
import shutil
import sys
from pathlib import Path
from typing import Optional

import cv2
import numpy as np
import torch
from PIL import Image

import mmdynperceiver.classification  # noqa: F401
from mmdynperceiver.cli import common
from mmdynperceiver.core import OperatingPoint
from mmdynperceiver.deploy.manifest import Manifest
from mmdynperceiver.io.checkpoints import read_weights

__all__ = ['JOBS', 'Job']

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / 'configs/demo/dyn-perceiver_resnet22-w025_1xb128_digits.py'
CLASSES = ('ant', 'bee', 'cow')
EPOCHS = 3
CONFIG = f'''
_base_ = {str(DEMO)!r}
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, block='basic', depths=(1, 1, 1, 1)),
        width=0.125, depth_factor=(0, 0, 1 / 9, 1 / 3)),
    head=dict(num_classes=3))
data_preprocessor = dict(num_classes=3)
loader = dict(num_workers=0, persistent_workers=False, batch_size=8)
train_dataloader = dict(dataset=dict(data_root='data'), **loader)
val_dataloader = dict(dataset=dict(data_root='data'), **loader)
test_dataloader = dict(dataset=dict(data_root='data'), **loader)
train_cfg = dict(max_epochs={EPOCHS})
'''
# Children are forked, and must not wait for threads that are not there.
torch.set_num_threads(1)
cv2.setNumThreads(0)


def run_tool(name: str, *args: str) -> Optional[int]:
    """Run a tool in this process."""
    sys.path.insert(0, str(ROOT / 'tools'))
    module = importlib.import_module(name)
    sys.argv = [name, *args]
    return common.run_tool(module.main)


def make_images(root: Path) -> None:
    """Write a few images of three classes."""
    rng = np.random.default_rng(0)
    for split in ('train', 'val', 'test'):
        for label, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(6):
                pixels = rng.integers(0, 80, (32, 32, 3)).astype('uint8')
                pixels[..., label] += 120
                Image.fromarray(pixels).save(folder / f'{number}.png')


class Job:
    """A program that writes files in a folder."""

    def prepare(self, folder: Path) -> None:
        """Write what it needs, where other jobs may have written."""

    def run(self, folder: Path) -> Optional[int]:
        """Run it, or go on after a kill; exit status, of which None is 0."""
        raise NotImplementedError

    def check(self, folder: Path, done: bool) -> None:
        """Raise an error if a file is neither absent nor whole.

        All must be there if the program has ended (``done``).
        """
        raise NotImplementedError


class Train(Job):
    """Training, which keeps the newest checkpoint only."""

    def prepare(self, folder: Path) -> None:
        make_images(folder / 'data')
        (folder / 'config.py').write_text(CONFIG)

    def run(self, folder: Path) -> Optional[int]:
        os.chdir(folder)
        return run_tool('train', 'config.py', '--work-dir', 'work', '--resume')

    def check(self, folder: Path, done: bool) -> None:
        found = sorted((folder / 'work').glob('*.pth'))
        for path in found:
            read_weights(str(path))
        last = folder / 'work/last_checkpoint'
        if last.exists():
            name = Path(last.read_text().strip()).name
            if not (folder / 'work' / name).exists():
                raise ValueError(f'{last} names {name}, which is not there')
        if done and [path.name for path in found] != [f'epoch_{EPOCHS}.pth']:
            raise ValueError(f'checkpoints {found}')


class Trained(Job):
    """A program that takes a checkpoint."""

    def prepare(self, folder: Path) -> None:
        if not (folder / 'model.pth').exists():
            Train().run(folder)
            os.replace(folder / f'work/epoch_{EPOCHS}.pth',
                       folder / 'model.pth')
            shutil.rmtree(folder / 'work')


class Calibrate(Trained):
    """Calibration with its report and a copy of the checkpoint."""

    def run(self, folder: Path) -> Optional[int]:
        os.chdir(folder)
        return run_tool('calibrate', 'config.py', 'model.pth', '--budget-macs',
                        '80%', '--report', 'report', '--embed', '--work-dir',
                        'work')

    def check(self, folder: Path, done: bool) -> None:
        read_weights(str(folder / 'model.pth'))
        for name, read in (('operating_point.json', OperatingPoint.load),
                           ('calibrated.pth', read_weights)):
            path = folder / f'model.{name}'
            if done or path.exists():
                read(str(path))
        report = folder / 'report'
        if (done or report.exists()) and not (report / 'index.html').exists():
            raise ValueError(f'{report} has no page')


class Export(Trained):
    """Export, which never replaces a folder."""

    def run(self, folder: Path) -> Optional[int]:
        os.chdir(folder)
        return 0 if (folder / 'exported').exists() else run_tool(
            'export', 'config.py', 'model.pth', 'exported')

    def check(self, folder: Path, done: bool) -> None:
        if done or (folder / 'exported').exists():
            Manifest.load(folder / 'exported')


class Generate(Job):
    """The generator of the demo's data."""

    def run(self, folder: Path) -> Optional[int]:
        sys.path.insert(0, str(ROOT))
        from projects.digits.__main__ import main
        os.chdir(folder)
        return main([
            'digits', '--train', '60', '--val', '20', '--test', '20',
            '--workers', '1'
        ])

    def check(self, folder: Path, done: bool) -> None:
        root = folder / 'digits'
        number = sum(
            path.suffix in ('.png', '.jpg') for path in root.rglob('*'))
        if (done or root.exists()) and number != 100:
            raise ValueError(f'{number} images instead of 100')


JOBS = dict(
    train=Train(), calibrate=Calibrate(), export=Export(), generate=Generate())
