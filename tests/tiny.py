# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A model and image folders small enough for tests."""
import copy
import importlib.util
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
IMAGENET_CONFIG = (
    ROOT / 'configs/imagenet/dyn-perceiver_regnety-800mf_8xb128_in1k.py')
CLASSES = ('ant', 'bee', 'cow')
# ImageNet's recipe on a tiny network and on images that have their size.
CONFIG = f'''
_base_ = [{str(IMAGENET_CONFIG)!r}]
model = dict(
    backbone=dict(
        _delete_=True,
        type='DynPerceiverBackbone',
        arch='resnet18',
        width=0.25,
        num_latents=16),
    head=dict(num_classes=3))
pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='PackInputs')]
loader = dict(batch_size=4, num_workers=0, dataset=dict(pipeline=pipeline))
train_dataloader = loader
val_dataloader = loader
test_dataloader = loader
train_cfg = dict(max_epochs=1)
default_hooks = dict(logger=dict(interval=1))
randomness = dict(seed=0)
'''


def load_tool(name):
    """The module of a tool, such as 'train'."""
    path = ROOT / 'tools' / f'{name}.py'
    spec = importlib.util.spec_from_file_location(f'tool_{path.stem}', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_tool(name, *args):
    """Run a tool in this process; returns its error line or exit status."""
    module = load_tool(name)
    old, sys.argv = sys.argv, [name, *map(str, args)]
    try:
        module.common.run_tool(module.main)
    except SystemExit as stop:
        return stop.code
    finally:
        sys.argv = old
    return None


def model_config(**changes):
    """Config of a classifier with five classes."""
    config = dict(
        type='DynPerceiverClassifier',
        backbone=dict(
            type='DynPerceiverBackbone',
            arch='resnet18',
            width=0.25,
            num_latents=16,
            depth_factor=(0, 0, 1 / 9, 1 / 3)),
        head=dict(type='DynPerceiverHead', num_classes=5))
    config.update(copy.deepcopy(changes))
    return config


def build_model(**changes):
    """Build it, in MMPretrain's scope."""
    from mmengine.registry import DefaultScope
    from mmpretrain.registry import MODELS

    import mmdynperceiver.classification  # noqa: F401
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(model_config(**changes))


def make_image_folder(root, per_class=3, splits=('train', 'val'), size=32):
    """Write images in ImageNet's layout and return the folder.

    Three classes that differ in colour; ``per_class`` images each.
    """
    rng = np.random.default_rng(0)
    for split in splits:
        for label, name in enumerate(CLASSES):
            folder = Path(root) / split / name
            folder.mkdir(parents=True)
            for number in range(per_class):
                pixels = rng.integers(0, 80, (size, size, 3)).astype('uint8')
                pixels[..., label] += 120
                Image.fromarray(pixels).save(folder / f'{number}.png')
    return Path(root)


def png_header(width, height):
    """A PNG file that says how large it is, and holds nothing."""

    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack(
            '>I', zlib.crc32(kind + data))

    head = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + chunk(
        b'IDAT', zlib.compress(b'')) + chunk(b'IEND', b'')


def split_lines(folder, test='test'):
    """Lines of a config with these splits of an image folder."""
    return ''.join(
        f'{name}_dataloader = dict(loader, dataset=dict(pipeline=pipeline, '
        f'data_root={str(folder)!r}, split={split!r}))\n'
        for name, split in (('train', 'train'), ('val', 'val'), ('test',
                                                                 test)))
