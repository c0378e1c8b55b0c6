# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The tiny exported network of the runner's tests, with thresholds."""
from typing import Any, NamedTuple

import numpy as np
import pytest
from test_deploy import conftest as deployed

collect_ignore_glob = deployed.collect_ignore_glob
photos, resnet, runtime = deployed.photos, deployed.resnet, deployed.runtime
spread_thresholds = deployed.spread_thresholds


class Slow:
    """Segments that wait before each run, for tests of what is under way."""

    def __init__(self, inner):
        self.inner = inner
        self.num_exits = inner.num_exits
        self.image_shape = inner.image_shape
        self.before = lambda index, size: None
        self.runs = []

    def step(self, index, tensors, held):
        size = len(next(iter(tensors.values())))
        self.runs.append((index, size))
        self.before(index, size)
        return self.inner.step(index, tensors, held)


class Loaded(NamedTuple):
    """A runner, and images under whose thresholds it leaves everywhere."""

    runner: Any
    images: np.ndarray


@pytest.fixture(scope='session')
def many():
    """Normalised images."""
    rng = np.random.default_rng(2)
    return rng.standard_normal((40, 3, 48, 48)).astype(np.float32)


@pytest.fixture
def slow():
    """Wraps segments; see :class:`Slow`."""
    return Slow


@pytest.fixture
def spread(many, resnet, spread_thresholds):
    """Opens the network in a runtime, with images that leave everywhere."""
    from mmdynperceiver.deploy import Runner

    def make(name='onnxruntime'):
        thresholds = spread_thresholds(resnet.net, many)
        runner = Runner.load(resnet.folder, name, 1, thresholds=thresholds)
        return Loaded(runner, many)

    return make
