# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A small network to save."""
import importlib.util

import pytest
import torch

collect_ignore_glob = [] if all(
    map(importlib.util.find_spec,
        ('huggingface_hub', 'safetensors'))) else ['test_*']

SETTINGS = dict(width=0.25, num_latents=8, depth_factor=(0, 0, 1 / 9, 1 / 3))
PREPROCESSING = dict(
    size=[48, 48],
    mean=[120., 110., 100.],
    std=[60., 61., 62.],
    steps=[
        dict(
            kind='resize',
            size=[48, 48],
            interpolation='bicubic',
            library='pillow')
    ])


@pytest.fixture(scope='session')
def net():
    """A network whose exits differ in what they say."""
    from mmdynperceiver.core import create_model
    torch.manual_seed(0)
    net = create_model('resnet18', num_classes=3, **SETTINGS)
    for classifier in net.exits.classifiers[:2]:
        torch.nn.init.normal_(classifier.weight)
    return net


@pytest.fixture(scope='session')
def points():
    """Two operating points."""
    from mmdynperceiver.core import OperatingPoint
    return [
        OperatingPoint((0.75, 0.6, 0.5),
                       temperature=(1.5, 1, 1, 1),
                       expected=dict(
                           accuracy=0.91,
                           test=dict(accuracy=0.89),
                           macs=5e6,
                           shares=[0.4, 0.3, 0.2, 0.1])),
        OperatingPoint((0, 0, 0))
    ]


@pytest.fixture
def classifier(net, points):
    """The network with all that it needs."""
    from mmdynperceiver.hub import ImageClassifier
    return ImageClassifier.of(
        net,
        preprocessing=PREPROCESSING,
        classes=['ant', 'bee', 'cow'],
        operating_points=points,
        about={'trained on': 'nothing'})
