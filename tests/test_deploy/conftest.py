# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Tiny networks of each family, exported once."""
import importlib.util
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

NEEDED = ('onnx', 'onnxruntime')
collect_ignore_glob = [] if all(map(importlib.util.find_spec,
                                    NEEDED)) else ['test_*']

SIZE = 48
CLASSES = ('ant', 'bee', 'cow', 'dog', 'elk')
FAMILIES = {
    'resnet':
    dict(arch=dict(block='basic', depths=(1, 1, 1, 1)), width=0.25),
    'regnet':
    dict(arch='regnety-400mf'),
    'mobilenet':
    dict(arch='mobilenetv3-large', width=0.25),
    'latency-first':
    dict(
        arch=dict(block='basic', depths=(1, 1, 1, 1)),
        width=0.25,
        branch='latency-first',
        latent_channels=24)
}
PREPROCESSING = dict(
    size=[SIZE, SIZE],
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    decoder='pillow',
    steps=[
        dict(
            kind='resize_edge',
            size=56,
            edge='short',
            interpolation='bicubic',
            library='pillow'),
        dict(kind='center_crop', size=[SIZE, SIZE])
    ])


class Exported(NamedTuple):
    """A network and its folder."""

    net: torch.nn.Module
    folder: str


def build_net(family='resnet', **settings):
    """Build a network whose exits differ in what they say."""
    from mmdynperceiver.core import DynPerceiver
    torch.manual_seed(0)
    net = DynPerceiver(
        num_latents=8,
        num_classes=len(CLASSES),
        depth_factor=(0, 0, 1 / 9, 1 / 3),
        **FAMILIES[family],
        **settings).eval()
    # As after training: statistics that fit the features.
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.train().momentum = None
    with torch.no_grad():
        net(torch.randn(16, 3, SIZE, SIZE))
    net.eval()
    for classifier in net.exits.classifiers:
        layer = classifier if isinstance(classifier, torch.nn.Linear) else \
            classifier[-1]
        torch.nn.init.normal_(layer.weight, std=3 / layer.in_features**0.5)
    return net


def export(net, folder):
    """Export it, without thresholds."""
    from mmdynperceiver.deploy.export import export_network
    export_network(
        *net.exit_parts(),
        folder,
        PREPROCESSING,
        net.policy,
        CLASSES,
        source=dict(config='tiny'))
    return Exported(net, str(folder))


@pytest.fixture(scope='session', params=list(FAMILIES))
def exported(request, tmp_path_factory):
    """A network of each family."""
    folder = tmp_path_factory.mktemp('exported') / request.param
    return export(build_net(request.param), folder)


@pytest.fixture(scope='session')
def resnet(tmp_path_factory):
    """One network."""
    return export(build_net('resnet'), tmp_path_factory.mktemp('one') / 'out')


@pytest.fixture(params=['onnxruntime', 'openvino'])
def runtime(request):
    """Each runtime that is there."""
    pytest.importorskip(request.param)
    return request.param


@pytest.fixture(scope='session')
def batch():
    """Normalised images, more than one size of batch divides."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((7, 3, SIZE, SIZE)).astype(np.float32)


@pytest.fixture(scope='session')
def photos(tmp_path_factory):
    """Files of several kinds and shapes, with structure in them."""
    folder = tmp_path_factory.mktemp('photos')
    rng = np.random.default_rng(1)
    for number, (mode, shape,
                 ending) in enumerate([('RGB', (70, 90, 3), 'jpg'),
                                       ('RGB', (64, 57, 3), 'png'),
                                       ('L', (80, 61), 'jpg'),
                                       ('RGBA', (61, 99, 4), 'png'),
                                       ('LA', (75, 66, 2), 'png'),
                                       ('RGB', (56, 56, 3), 'bmp')]):
        coarse = rng.integers(0, 255, (shape[0] // 4 + 1, shape[1] // 4 + 1) +
                              shape[2:])
        pixels = coarse.repeat(4, 0).repeat(4, 1)[:shape[0], :shape[1]]
        image = Image.fromarray(pixels.astype(np.uint8), mode)
        name = folder / f'{number}-{mode}.{ending}'
        if number == 0:
            # Turned by the camera: EXIF's orientation 6.
            exif = Image.Exif()
            exif[0x0112] = 6
            image.save(name, exif=exif)
        else:
            image.save(name)
    return folder


@pytest.fixture
def spread_thresholds():
    """Thresholds under which a batch leaves at several exits."""

    def make(net, batch, criterion='max_prob', temperature=None):
        from mmdynperceiver.core.criteria import confidences
        with torch.no_grad():
            conf = confidences(
                net(torch.from_numpy(batch)), criterion, temperature)
        found = []
        for values in conf[:-1]:
            ordered = sorted(set(values.tolist()))
            middle = len(ordered) // 2
            # Between two confidences: rounding decides nothing.
            found.append((ordered[middle - 1] + ordered[middle]) /
                         2 if middle else ordered[0] / 2)
        return tuple(found)

    return make
