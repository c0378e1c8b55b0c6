# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Layers that are no longer PyTorch's own count in every way to run.

Each change below doubles what a layer gives, so the right logits are those
of the network whose weights of that layer are doubled.
"""
import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import parametrizations, prune

from mmdynperceiver.core import (DynPerceiver, compile_segments,
                                 prepare_for_inference)
from mmdynperceiver.core.accelerate import recompute
from .changes import CHANGES, changed, double, hook, replace, wrap, wrap_openly

IMAGES = torch.randn(
    3,
    3,
    56,
    56,
    dtype=torch.double,
    generator=torch.Generator().manual_seed(0))

# A layer of every kind that is folded, merged, or read somewhere.
PLACES = [
    'trunk.stem.0', 'trunk.stem.1', 'trunk.stages.1.conv.0.conv1',
    'trunk.stages.1.conv.0.bn1', 'trunk.stages.1.conv.0.downsample.0',
    'trunk.stages.0.x2z.dw_conv', 'trunk.stages.0.x2z.attn.norm_q',
    'trunk.stages.0.x2z.attn.norm_kv', 'trunk.stages.0.x2z.attn.q',
    'trunk.stages.0.x2z.attn.kv', 'trunk.stages.0.x2z.attn.proj',
    'trunk.stages.0.x2z.mlp.fc2', 'trunk.stages.0.blocks.0.norm',
    'trunk.stages.0.blocks.0.qkv', 'trunk.stages.0.blocks.0.proj',
    'trunk.stages.0.blocks.0.mlp.fc1', 'trunk.stages.1.z2x.attn.q',
    'trunk.stages.1.z2x.attn.proj', 'trunk.stages.1.z2x.mlp.fc2',
    'trunk.last_z2x.mlp.fc1', 'trunk.last_z2x.mlp.fc2', 'exits.fkt.0.0',
    'exits.fkt.0.1', 'exits.classifiers.0', 'exits.classifiers.2.1',
    'exits.classifiers.3.0', 'exits.classifiers.3.1'
]
LINEAR = [
    p for p in PLACES if p.endswith(('.q', '.kv', '.qkv', '.proj', '.fc2'))
]


@pytest.fixture(scope='module')
def original():
    """A small network with one block in each stage, and stirred weights."""
    torch.manual_seed(0)
    net = DynPerceiver(
        dict(block='basic', depths=(1, 1, 1, 1)),
        width=0.25,
        num_latents=8,
        num_classes=5,
        dropout=0,
        drop_path_rate=0,
        depth_factor=(1 / 3, 1 / 3, 1 / 9, 1 / 3))
    for name, value in net.state_dict().items():
        if name.endswith('running_var'):
            value.uniform_(0.5, 1.5)
        elif value.is_floating_point() and value.ndim == 1:
            value.add_(torch.randn_like(value) / 3)
    return net.double().eval()


@pytest.fixture(autouse=True)
def every_shortcut(monkeypatch):
    """Take the ways past layers for small inputs, too."""
    monkeypatch.setattr(recompute, 'MANY', 1)
    monkeypatch.setattr(recompute, '_RECOMPUTE_FROM', 0)


def check(got, want):
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize('change', CHANGES)
def test_every_place_at_once(change, original):
    net = changed(original, change, *PLACES)
    truth = changed(original, double, *PLACES)
    prepared = prepare_for_inference(net, (56, 56))
    macs = [m.macs_per_exit((3, 56, 56)) for m in (net, prepared, original)]
    assert macs[0] == macs[1]
    if change in (wrap, wrap_openly):
        assert all(one > other for one, other in zip(macs[1], macs[2]))
    else:
        assert macs[1] == macs[2]
    with torch.no_grad():
        want = truth(IMAGES)
        assert (want[3] - original(IMAGES)[3]).abs().max() > 1e-2
        check(net(IMAGES), want)
        check(prepared(IMAGES), want)
        if change is hook:
            check(compile_segments(prepared, backend='eager')(IMAGES), want)
        check(prepare_for_inference(prepared)(IMAGES), want)
        got = prepared.predict(IMAGES, (2, 2, 2)).logits
        torch.testing.assert_close(got, want[3])
    check(net.train()(IMAGES), truth.train()(IMAGES))


# Few of what is folded together, and one that holds others.
@pytest.mark.parametrize('places', [
    *(PLACES[first::8] for first in range(8)),
    ['trunk.stages.1.conv.0.bn2'],
])
def test_some_places(places, original):
    """A layer that is not plain keeps those folded with it as they are."""
    net = changed(original, hook, *places)
    with torch.no_grad():
        want = changed(original, double, *places)(IMAGES)
        check(net(IMAGES), want)
        check(prepare_for_inference(net, (56, 56))(IMAGES), want)


@pytest.mark.parametrize('norm', [
    torch.nn.utils.weight_norm,
    torch.nn.utils.spectral_norm,
    parametrizations.weight_norm,
    parametrizations.spectral_norm,
    lambda layer: prune.l1_unstructured(layer, 'weight', 0.3),
])
def test_weights_from_elsewhere(norm, original):
    """The weights are made when the layer is called."""
    net = changed(original, lambda net, place: norm(net.get_submodule(place)),
                  *LINEAR)
    net.train()(IMAGES)  # keeps a weight with a history, and renews norms
    net.eval()
    with torch.no_grad():
        prepared = prepare_for_inference(net, (56, 56))
        want = net(IMAGES)  # hooks have made the weights now
        truth = copy.deepcopy(original)
        state = dict(net.state_dict())
        for place in LINEAR:
            state[f'{place}.weight'] = net.get_submodule(place).weight
        truth.load_state_dict(state, strict=False)
        assert all((truth(IMAGES)[k] - original(IMAGES)[k]).abs().max() > 1e-3
                   for k in range(4))
        check(truth(IMAGES), want)
        check(prepared(IMAGES), want)
    macs = {m.macs_per_exit((3, 56, 56)) for m in (net, prepared, original)}
    assert len(macs) == 1


class Scaled(nn.Module):
    """Another norm than a layer norm."""

    def __init__(self, norm):
        super().__init__()
        self.scale = nn.Parameter(torch.randn_like(norm.weight))

    def forward(self, x):
        return self.scale * x / x.square().mean(-1, keepdim=True).sqrt()


def test_other_norms(original):
    norms = [p for p in PLACES if '.norm' in p and '.bn' not in p]
    net = changed(original, lambda net, place: replace(net, place, Scaled),
                  *norms)
    with torch.no_grad():
        want = net(IMAGES)
        check(prepare_for_inference(net, (56, 56))(IMAGES), want)
    assert all((one - other).abs().max() > 1e-3
               for one, other in zip(want, original(IMAGES)))


def test_biases_where_there_were_none(original):
    """And none where there was one."""

    def exchange(net, place):
        layer = net.get_submodule(place)
        if not isinstance(layer, nn.Linear):
            return
        bias = layer.bias is None
        replace(
            net, place, lambda old: nn.Linear(
                old.in_features, old.out_features, bias=bias).double())

    net = changed(original, exchange, *LINEAR, 'exits.classifiers.3.1')
    with torch.no_grad():
        check(prepare_for_inference(net, (56, 56))(IMAGES), net(IMAGES))


def test_other_convolutions_in_front_of_the_pooling(original):
    net = changed(
        original, lambda net, place: replace(
            net, place, lambda old: nn.Conv2d(16, 16, 5, padding=2, groups=16).
            double()), 'trunk.stages.0.x2z.dw_conv')
    x2z, x = net.trunk.stages[0].x2z, torch.randn(1, 16, 14, 14).double()
    x = x.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        want = F.adaptive_avg_pool2d(x + x2z.dw_conv(x), 7)
        torch.testing.assert_close(x2z.sharpen_and_pool(x), want)
        check(prepare_for_inference(net, (56, 56))(IMAGES), net(IMAGES))


def test_parts_left_in_training_mode(original):
    """Dropout that samples, and a norm of the batch, work on."""
    net = copy.deepcopy(original)
    norm = net.trunk.stages[2].conv[0].bn1.train()
    norm.momentum = 0
    net.exits.classifiers[2][0].p = 0.5
    net.exits.classifiers[2][0].train()
    fast = prepare_for_inference(net, (56, 56))
    with torch.no_grad():
        for k in (0, 1):  # neither is behind the dropout
            torch.testing.assert_close(fast(IMAGES)[k], net(IMAGES)[k])
            assert not torch.equal(net(IMAGES)[1], original(IMAGES)[1])
        assert not torch.equal(fast(IMAGES)[2], fast(IMAGES)[2])


class AlwaysDrops(nn.Dropout):

    def forward(self, x):
        return F.dropout(x, 1.)


def test_dropout_of_another_class(original):
    net = copy.deepcopy(original)
    net.exits.classifiers[2][0] = AlwaysDrops()
    fast = prepare_for_inference(net, (56, 56))
    with torch.no_grad():
        assert torch.equal(
            fast(IMAGES)[2],
            net.exits.classifiers[2][1].bias.expand(len(IMAGES), -1))


def test_hooks_see_what_is_computed_and_nothing_else(original):
    """Not what is made without data, to prepare and to count."""
    net = copy.deepcopy(original)
    seen = []

    def look(module, inputs, output):
        seen.append((inputs[0].numpy().shape, output.numpy().shape))

    for place in PLACES:
        net.get_submodule(place).register_forward_hook(look)
    net.trunk.stages[1].conv.register_forward_hook(look)
    fast = prepare_for_inference(net, (56, 56))
    net.macs_per_exit((3, 56, 56)), fast.macs_per_exit((3, 64, 64))
    assert seen == []
    with torch.no_grad():
        fast(IMAGES)
        prepared, _ = list(seen), seen.clear()
        net(IMAGES)
    assert len(seen) == len(PLACES) + 1
    assert sorted(prepared) == sorted(seen)


def test_hooks_of_all_modules(original):
    calls = []
    handle = register_module_forward_hook(lambda m, i, out: calls.append(m))
    try:
        fast = prepare_for_inference(original, (56, 56))
        original.macs_per_exit((3, 72, 72))
        assert calls == []
        with torch.no_grad():
            for net in (original, fast):
                calls.clear()
                net(IMAGES)
                called = set(map(id, calls))
                for place in PLACES:
                    assert id(net.get_submodule(place)) in called, place
    finally:
        handle.remove()


@pytest.mark.filterwarnings('ignore::DeprecationWarning')
def test_quantised_layers(original):
    quantisation = pytest.importorskip('torch.ao.quantization')
    net = copy.deepcopy(original).float()
    net = quantisation.quantize_dynamic(net, {nn.Linear})
    assert not isinstance(net.trunk.stages[0].x2z.attn.q, nn.Linear)
    images = IMAGES.float()
    with torch.no_grad():
        want = net(images)
        fast = prepare_for_inference(net, (56, 56))
        # A step of eight bits is a hundredth.
        for one, other in zip(fast(images), want, strict=True):
            assert (one - other).norm() < 0.05 * other.norm()
    kind = type(net.trunk.stages[0].x2z.attn.q)
    assert sum(isinstance(m, kind) for m in fast.modules()) == sum(
        isinstance(m, nn.Linear) for m in original.modules())
    macs = original.macs_per_exit((3, 56, 56))
    assert net.macs_per_exit((3, 56, 56)) == macs


class Reads(nn.Module):

    def forward(self, x):
        return x if x.sum() > 0 else 2 * x


def test_what_cannot_be_counted_is_named(original):
    net = copy.deepcopy(original)
    net.trunk.stages[1].blocks.append(nn.Sequential(Reads()))
    with pytest.raises(
            ValueError, match=r'MACs.* trunk.stages.1.blocks.1.0 \(Reads\)'):
        net.macs_per_exit((3, 56, 56))


def test_adapters_count_macs(original):
    macs = original.macs_per_exit((3, 56, 56))
    net = copy.deepcopy(original)
    assert net.macs_per_exit((3, 56, 56)) == macs
    wrap(net, 'trunk.stages.0.x2z.attn.proj')
    # 8 latents, 16 channels: once more, in a model that was counted before.
    more = tuple(m + 8 * 16 * 16 for m in macs)
    assert net.macs_per_exit((3, 56, 56)) == more
    assert prepare_for_inference(net).macs_per_exit((3, 56, 56)) == more
