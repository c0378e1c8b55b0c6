# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Prepared networks give the same logits for less work."""
import copy
import pickle

import pytest
import torch
from torch import nn

from mmdynperceiver.core import (ConvTrunk, DynPerceiver, Trunk, load_official,
                                 prepare_for_inference)
from mmdynperceiver.core.accelerate.folding import (FoldedCrossAttention,
                                                    FoldedSelfAttention)
from mmdynperceiver.core.attention import (X2Z, CrossAttention,
                                           SelfAttentionBlock)
from mmdynperceiver.core.dyn_perceiver import build_exits
from .. import reference

SMALL = dict(arch='resnet18', width=0.25, num_latents=16, num_classes=7)


def stir(module):
    """Give norms and biases other values than the initial ones."""
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            if name.endswith('running_var') or value.ndim == 1:
                value.uniform_(0.5, 1.5)
            elif name.endswith(('running_mean', 'position_bias')):
                value.uniform_(-0.5, 0.5)
    return module.eval()


def count(module, kind):
    """Number of layers of a kind."""
    return sum(isinstance(layer, kind) for layer in module.modules())


@pytest.mark.parametrize('variant', reference.VARIANTS)
def test_published_networks_stay_the_same(variant):
    _, state_dict, expected = reference.load(variant)
    net = load_official({'model': state_dict})
    fast = prepare_for_inference(net)
    with torch.no_grad():
        logits = fast(reference.images())
        for got, want, before in zip(
                logits, expected, net(reference.images()), strict=True):
            torch.testing.assert_close(got, want, atol=2e-4, rtol=0)
            torch.testing.assert_close(got, before, atol=1e-4, rtol=0)
    for kind in (nn.BatchNorm1d, nn.BatchNorm2d, nn.Dropout):
        assert count(fast, kind) == 0 < count(net, nn.BatchNorm2d)
    assert fast.macs_per_exit() == net.macs_per_exit()
    assert fast.macs_per_exit((3, 64, 96)) == net.macs_per_exit((3, 64, 96))


@pytest.mark.parametrize('size', [(224, 224), (64, 96), (56, 112)])
@pytest.mark.parametrize('prepared_for', [(224, 224), None])
def test_any_image_size(size, prepared_for):
    net = stir(DynPerceiver(**SMALL))
    fast = prepare_for_inference(net, prepared_for)
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        for got, want in zip(fast(images), net(images), strict=True):
            torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('change', [
    dict(fkt=False),
    dict(x2z=False, z2x=False, last_z2x=False),
    dict(dw_conv=False),
    dict(token_mixer=False),
    dict(exits='feature'),
    dict(exits='last'),
])
def test_ablations(change):
    net = stir(DynPerceiver(**{**SMALL, **change}))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        got = prepare_for_inference(net)(images)
        for one, other in zip(got, net(images), strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('arch, width, scale', [
    ('resnet18', 0.25, 1),
    ('regnety-400mf', 1., 1000),
    ('mobilenetv3-large', 0.25, 1),
])
def test_tolerance(arch, width, scale):
    """Relative to the largest logit of an exit, however large that is."""
    torch.manual_seed(0)
    net = DynPerceiver(arch, width=width, num_latents=8, num_classes=7).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for classifier in net.exits.classifiers:
            for parameter in classifier.parameters():
                parameter.mul_(scale)
        fast = prepare_for_inference(net, (64, 64))
        for got, want in zip(fast(images), net(images), strict=True):
            largest = want.abs().max()
            assert (got - want).abs().max() <= 1e-4 * largest
            assert largest < 15 if scale == 1 else largest > 100


def test_empty_batch():
    net = DynPerceiver(
        'mobilenetv3-large', width=0.25, num_latents=8, num_classes=7).eval()
    fast = prepare_for_inference(net, (64, 64))
    out = fast.predict(torch.empty(0, 3, 64, 64), (0.5, 0.5, 0.5))
    assert out.logits.shape == (0, 7) and out.exit_index.shape == (0, )


def test_prepared_twice():
    net = stir(DynPerceiver(**SMALL))
    images = torch.randn(2, 3, 56, 84)
    once = prepare_for_inference(net, (56, 56))
    twice = prepare_for_inference(once, (56, 84))
    half = prepare_for_inference(twice, (56, 84), torch.bfloat16)
    assert twice is not once and type(twice) is DynPerceiver
    # A kernel for the other size: cells of 2x3 pixels.
    kernels = [m.trunk.stages[0].x2z.fixed_kernel for m in (once, twice)]
    assert [k.shape[2:] for k in kernels] == [(8, 8), (8, 9)]
    with torch.no_grad():
        want = net(images)
        for got in (once(images), twice(images)):
            for one, other in zip(got, want, strict=True):
                torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
        for one, other in zip(half(images), want, strict=True):
            assert one.dtype == torch.float32
            assert (one - other).norm() < 0.05 * other.norm()
        for one, other in zip(
                prepare_for_inference(half, (56, 84))(images), half(images)):
            torch.testing.assert_close(one, other)
    assert half.macs_per_exit((3, 56, 84)) == net.macs_per_exit((3, 56, 84))


def test_early_exit_is_the_same():
    net = stir(DynPerceiver(**SMALL))
    images = torch.randn(12, 3, 64, 64)
    with torch.no_grad():
        conf = net(images)[0].softmax(1).amax(1).sort().values
    thresholds = ((conf[5] + conf[6]).item() / 2, 0.9, 0.9)
    one = net.predict(images, thresholds)
    other = prepare_for_inference(net).predict(images, thresholds)
    assert (one.exit_index == 0).sum() == 6
    assert torch.equal(one.exit_index, other.exit_index)
    torch.testing.assert_close(one.logits, other.logits, atol=1e-4, rtol=1e-4)


def test_a_trunk_alone_keeps_its_maps():
    trunk = stir(Trunk('resnet18', width=0.25, num_latents=16))
    fast = prepare_for_inference(trunk)
    states = []
    with torch.no_grad():
        for net in (trunk, fast):
            state = net.initial_state(
                torch.randn(
                    1, 3, 64, 64, generator=torch.Generator().manual_seed(3)))
            for index in range(net.num_segments):
                state, _ = net.segment(index, state)
            states.append(state)
    assert states[0].x.shape == states[1].x.shape == (1, 128, 2, 2)
    torch.testing.assert_close(states[0], states[1], atol=1e-4, rtol=1e-4)


def test_a_static_trunk():
    trunk = stir(ConvTrunk('regnety-400mf', exit_stages=(2, 3)))
    fast = prepare_for_inference(trunk)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(
            fast(images), trunk(images), atol=1e-4, rtol=1e-4)
    assert count(fast, nn.BatchNorm2d) == 0


def test_a_branch_that_cannot_be_traced():

    class Undecided(nn.Sequential):

        def forward(self, x):
            return super().forward(x if x.sum() > 0 else 2 * x)

    net = stir(DynPerceiver(**SMALL))
    net.trunk.stages[0].conv = Undecided(*net.trunk.stages[0].conv)
    fast = prepare_for_inference(net)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(
            fast(images), net(images), atol=1e-4, rtol=1e-4)
    kept = count(fast, nn.BatchNorm2d)
    assert kept == count(net.trunk.stages[0].conv, nn.BatchNorm2d) > 0


def test_a_convolution_used_twice_keeps_its_norm():

    class Twice(nn.Module):

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x):
            return self.conv(self.norm(self.conv(x)))

    trunk = ConvTrunk('resnet18', width=0.25)
    trunk.stem = nn.Sequential(Twice(), trunk.stem)
    stir(trunk)
    images = torch.randn(1, 3, 64, 64)
    fast = prepare_for_inference(trunk)
    with torch.no_grad():
        torch.testing.assert_close(fast(images), trunk(images))
    assert count(fast, nn.BatchNorm2d) == 1


def test_the_model_is_left_alone():
    net = stir(DynPerceiver(**SMALL))
    before = copy.deepcopy(net.state_dict())
    prepare_for_inference(net)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.requires_grad for p in net.parameters())
    net.train()


def test_refuses():
    net = DynPerceiver(**SMALL)
    with pytest.raises(RuntimeError, match='call eval'):
        prepare_for_inference(net)
    with pytest.raises(ValueError, match='no trunk in Linear'):
        prepare_for_inference(nn.Linear(2, 2).eval())
    fast = prepare_for_inference(net.eval())
    assert fast.eval() is fast
    with pytest.raises(RuntimeError, match='cannot be trained'):
        fast.train()
    for twin in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        with pytest.raises(RuntimeError, match='cannot be trained'):
            twin.train()
    for size in (64, (64, )):
        with pytest.raises(ValueError, match='image_size must be height and'):
            prepare_for_inference(DynPerceiver(**SMALL).eval(), size)


@pytest.mark.parametrize('num_positions', [None, 5])
def test_folded_cross_attention(num_positions):
    attn = stir(CrossAttention(6, 8, 4, num_positions).double())
    queries, kv = torch.randn(2, 3, 6).double(), torch.randn(2, 5, 8).double()
    folded = FoldedCrossAttention(attn)
    torch.testing.assert_close(folded(queries, kv), attn(queries, kv))
    assert count(folded, nn.Linear) == 1 and count(attn, nn.Linear) == 3


def test_folded_self_attention():
    block = stir(SelfAttentionBlock(6, 1).double())
    z = torch.randn(2, 3, 6).double()
    folded = FoldedSelfAttention(block)
    torch.testing.assert_close(folded(z), block(z))
    assert count(folded, nn.Linear) == 3 and count(block, nn.Linear) == 4


def test_folds_single_heads_alone():
    trunk = Trunk('resnet18', width=0.25, num_latents=16).eval()
    fast = prepare_for_inference(trunk)
    assert all(
        isinstance(block, FoldedSelfAttention)
        for block in fast.stages[0].blocks)
    assert not count(fast.stages[1], FoldedSelfAttention)
    assert count(fast, FoldedCrossAttention) == count(trunk, X2Z) == 4


def test_half_precision():
    net = stir(DynPerceiver(**SMALL))
    fast = prepare_for_inference(net, (64, 64), torch.bfloat16)
    assert {p.dtype for p in fast.parameters()} == {torch.bfloat16}
    images = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        for got, want in zip(fast(images), net(images), strict=True):
            assert got.dtype == torch.float32
            assert not torch.equal(got, want)
            assert (got - want).norm() < 0.05 * want.norm()
    out = fast.predict(images, (0.2, 0.2, 0.2))
    assert out.logits.dtype == out.confidence.dtype == torch.float32
    assert fast.macs_per_exit((3, 64, 64)) == net.macs_per_exit((3, 64, 64))
    with pytest.raises(ValueError, match='dtype must be.*float64'):
        prepare_for_inference(net, dtype=torch.float64)


def test_build_exits_are_folded_alone():
    """Exits of any kind, in a module that is no DynPerceiver."""

    class Other(nn.Module):

        def __init__(self):
            super().__init__()
            self.trunk = Trunk('resnet18', width=0.25, num_latents=8)
            self.exits = build_exits(self.trunk, 3)

        def exit_parts(self):
            return self.trunk, self.exits

        def forward(self, images):
            return self.exits(self.trunk(images))

    net = stir(Other())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for one, other in zip(
                prepare_for_inference(net)(images), net(images), strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
