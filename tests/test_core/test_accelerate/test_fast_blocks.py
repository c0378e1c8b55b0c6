# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Fast blocks stand where plain ones stood, and compute the same."""
import copy
import pickle

import pytest
import torch
from torch import nn

from mmdynperceiver.core import DynPerceiver, Trunk
from mmdynperceiver.core.accelerate import recompute
from mmdynperceiver.core.accelerate.fast_blocks import (FastCrossAttention,
                                                        FastMLP,
                                                        FastSelfAttentionBlock,
                                                        FastX2Z,
                                                        use_fast_blocks)
from mmdynperceiver.core.attention import MLP, X2Z

SMALL = dict(arch='resnet18', width=0.25, num_latents=8, drop_path_rate=0.)
FAST = (FastCrossAttention, FastMLP, FastSelfAttentionBlock, FastX2Z)


def test_networks_have_them_and_trunks_alone_do_not():
    assert set(FAST) <= {type(m) for m in DynPerceiver(**SMALL).modules()}
    assert not any(isinstance(m, FAST) for m in Trunk(**SMALL).modules())


def test_same_results_gradients_and_names(monkeypatch):
    monkeypatch.setattr(recompute, '_RECOMPUTE_FROM', 0)
    torch.manual_seed(0)
    plain = Trunk(**SMALL).double()
    fast = use_fast_blocks(copy.deepcopy(plain))
    assert list(fast.state_dict()) == list(plain.state_dict())
    images = torch.randn(2, 3, 112, 56, dtype=torch.double)
    grads = []
    for trunk in (plain, fast):
        vectors = [v for vs in trunk(images) for v in vs]
        loss = sum(v.square().sum() for v in vectors)
        grads.append(
            (loss,
             torch.autograd.grad(loss, trunk.parameters(), allow_unused=True)))
    torch.testing.assert_close(*grads)


def test_copies_stay_fast():
    net = DynPerceiver(**SMALL)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert [type(m) for m in twin.modules()] == \
            [type(m) for m in net.modules()]


def test_other_classes_stay():

    class Other(X2Z):
        pass

    block = use_fast_blocks(Other(6, 8))
    assert type(block) is Other and type(block.mlp) is FastMLP
    hooked = MLP(4, 4)
    calls = []
    hooked.register_forward_hook(lambda *args: calls.append(args))
    use_fast_blocks(hooked)(torch.rand(1, 2, 4))
    assert type(hooked) is FastMLP and len(calls) == 1


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('size, merged', [
    ((28, 56), True),
    ((112, 14), True),
    ((77, 63), True),
    ((7, 7), True),
    ((30, 56), False),
    ((4, 4), False),
])
def test_sharpening_and_pooling_in_one(size, merged, training, monkeypatch):
    x2z = FastX2Z(6, 8).double().train(training)
    x = torch.randn(2, 6, *size, dtype=torch.double)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    if merged:
        monkeypatch.setattr(nn.Conv2d, 'forward', None)
    got = x2z.sharpen_and_pool(x)
    conv = torch.nn.functional.conv2d(
        x, x2z.dw_conv.weight, x2z.dw_conv.bias, padding=3, groups=6)
    want = torch.nn.functional.adaptive_avg_pool2d(x + conv, 7)
    torch.testing.assert_close(got, want)
    leaves = (x, x2z.dw_conv.weight, x2z.dw_conv.bias)
    weights = torch.randn_like(got)
    for one, other in zip(
            torch.autograd.grad((got * weights).sum(), leaves),
            torch.autograd.grad((want * weights).sum(), leaves),
            strict=True):
        torch.testing.assert_close(one, other)


def test_kernels_of_a_training_stay_small(monkeypatch):
    """The weights' gradient is slow with kernels above 14."""
    x2z = FastX2Z(6, 8)
    sides = []
    monkeypatch.setattr(
        x2z, 'pooling_kernel',
        lambda cell: sides.append(cell) or FastX2Z.pooling_kernel(x2z, cell))
    for size in ((112, 63), (56, 140), (7, 84)):
        x = torch.randn(1, 6,
                        *size).contiguous(memory_format=torch.channels_last)
        assert x2z.sharpen_and_pool(x).shape == (1, 6, 7, 7)
    assert sides == [(8, 3), (8, 5), (1, 6)]
