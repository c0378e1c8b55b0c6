# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""MACs are counted without data, once for each size and structure."""
import copy
import pickle
import threading

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmdynperceiver.core import (DynPerceiver, compile_segments, complexity,
                                 count_macs, macs_per_exit,
                                 prepare_for_inference)

SIZE = (3, 64, 96)


@pytest.fixture
def net():
    return DynPerceiver(
        'mobilenetv3-large', width=0.25, num_latents=8, num_classes=5).eval()


def test_counts_what_pytorch_counts(net):
    """Its counter sees each operator; ours takes ways past slow checks."""
    twin = copy.deepcopy(net).to('meta').requires_grad_(False)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        twin(torch.empty(1, *SIZE, device='meta'))
    assert net.macs_per_exit(SIZE)[-1] == counter.get_total_flops() // 2
    with torch.inference_mode():
        assert macs_per_exit(*net.exit_parts(), SIZE) == \
            net.macs_per_exit(SIZE)


@pytest.mark.parametrize('change', [
    copy.deepcopy,
    lambda net: pickle.loads(pickle.dumps(net)),
    lambda net: net.double(),
    lambda net: net.bfloat16(),
    lambda net: net.train(),
    lambda net: prepare_for_inference(net, (64, 64), torch.bfloat16),
    lambda net: copy.deepcopy(prepare_for_inference(net)),
    lambda net: compile_segments(net, backend='eager'),
])
def test_copies_and_precisions(change, net):
    macs = net.macs_per_exit(SIZE)
    changed = change(net)
    assert changed.macs_per_exit(SIZE) == macs
    assert changed.macs_per_exit((3, 96, 64)) == macs
    assert macs_per_exit(*change(net).exit_parts(),
                         SIZE) == macs or 'counted_model' in vars(changed)


def test_data_are_not_copied(net, monkeypatch):

    def refuse(self, memo):
        raise AssertionError('data are copied')

    monkeypatch.setattr(torch.Tensor, '__deepcopy__', refuse)
    monkeypatch.setattr(nn.Parameter, '__deepcopy__', refuse)
    before = dict(net.state_dict())
    net.macs_per_exit(SIZE)
    assert all(value.device.type == 'cpu' for value in before.values())
    assert {type(m)
            for m in net.modules() if '_macs' in vars(m)} == {DynPerceiver}
    assert list(net.state_dict()) == list(before)


def test_keeps_the_sizes_that_came_last(net, monkeypatch):
    counted = []

    def count(trunk, exits, shape):
        counted.append(shape)
        return (len(counted), )

    monkeypatch.setattr(complexity, 'macs_per_exit', count)
    sizes = [(3, 32, 32 + k) for k in range(65)]
    for size in sizes:
        net.macs_per_exit(size)
    assert len(counted) == 65
    assert net.macs_per_exit(list(sizes[-1])) == (65, )
    assert len(counted) == 65
    net.macs_per_exit(sizes[0])
    assert counted[-1] == sizes[0] and len(counted) == 66


def test_exchanged_layers_are_counted_again(net):
    macs = net.macs_per_exit(SIZE)
    width = net.exits.classifiers[0].in_features
    net.exits.classifiers[0] = nn.Sequential(
        nn.Linear(width, 11), nn.Linear(11, 5))
    more = 11 * width + 11 * 5 - 5 * width
    assert net.macs_per_exit(SIZE) == tuple(m + more for m in macs)


def test_threads_count_alike(net):
    sizes = [(3, 32 * k, 32) for k in range(1, 5)]
    want = [net.macs_per_exit(size) for size in sizes]
    net.__dict__.pop('_macs')
    found = {}

    def count(size):
        found[size] = net.macs_per_exit(size)

    threads = [threading.Thread(target=count, args=(s, )) for s in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[size] for size in sizes] == want


def test_numbers_are_promoted_as_pytorch_does():

    def masked(conv, images):
        yield conv((images > 0).int() * images)

    assert count_macs(nn.Conv2d(3, 4, 1), masked, (3, 8, 8)) == (3 * 4 * 64, )
