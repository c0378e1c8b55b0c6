# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Folders of images, and one fit of them."""
import importlib.util

import pytest
from tiny import CLASSES, make_image_folder

collect_ignore_glob = [] if importlib.util.find_spec('mmpretrain') and \
    importlib.util.find_spec('onnxruntime') else ['test_*']

# A small network, and images as they are.
TINY = dict(
    arch='resnet18',
    width=0.125,
    image_size=32,
    num_latents=8,
    batch_size=8,
    passes=1,
    threads=1)


@pytest.fixture
def folder(tmp_path):
    """Class folders with 24 images each, no two alike."""
    make_image_folder(tmp_path / 'all', 24, ['train'])
    return tmp_path / 'all/train'


@pytest.fixture(scope='session')
def data(tmp_path_factory):
    """The same, which nobody changes."""
    root = tmp_path_factory.mktemp('fit')
    make_image_folder(root, 24, ['train'])
    return root / 'train'


@pytest.fixture(scope='session')
def fitted(data, tmp_path_factory):
    """A fit with its twin: options and result."""
    import mmdynperceiver
    options = dict(
        TINY,
        data=str(data),
        out=str(tmp_path_factory.mktemp('fitted') / 'my model'),
        budget_macs='70%',
        compare=True)
    return options, mmdynperceiver.fit(**options)


__all__ = ['CLASSES', 'TINY']
