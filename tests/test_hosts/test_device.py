# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Runners use the device that is named."""
import argparse

import pytest

device_utils = pytest.importorskip('mmengine.device.utils')

from mmdynperceiver.cli import common  # noqa: E402
from mmdynperceiver.errors import InputError  # noqa: E402
from mmdynperceiver.hosts import device  # noqa: E402


@pytest.fixture(autouse=True)
def with_a_gpu(monkeypatch):
    """As if mmengine had found a GPU."""
    monkeypatch.setattr(device_utils, 'DEVICE', 'cuda')
    monkeypatch.setattr(device, '_CHOICE_OF_HOST', 'cuda')


def test_the_cpu_although_there_is_a_gpu():
    assert device.on_gpu()
    assert device.use_device('cpu') == 'cpu'
    assert device_utils.get_device() == 'cpu' and not device.on_gpu()
    device.use_device()
    assert device.on_gpu()


def test_what_cannot_be_used_is_named():
    with pytest.raises(InputError, match='--device abacus cannot be used: '):
        device.use_device('abacus')
    assert device.on_gpu()


def options(*words):
    parser = argparse.ArgumentParser()
    common.add_device_option(parser)
    common.add_common_options(parser)
    return parser.parse_args(words)


def test_processes_have_a_gpu_each():
    args = options('--launcher', 'pytorch', '--device', 'cuda:1')
    with pytest.raises(InputError, match='leave out --device cuda:1'):
        common.apply_run_options(args)
    args = options('--launcher', 'pytorch', '--device', 'cpu')
    common.apply_run_options(args)
    assert args.device == 'cpu' and not device.on_gpu()
