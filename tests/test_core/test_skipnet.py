# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""SkipNet: blocks skipped as simulated; gates that are soft, then hard."""
import pytest
import torch
import torch.nn.functional as F

from mmdynperceiver.core import (ConvTrunk, EarlyExitNet, build_feature_branch,
                                 macs_per_exit)
from mmdynperceiver.core.accelerate.copies import on_meta
from mmdynperceiver.core.networks import SkipNet
from mmdynperceiver.core.networks.skipnet import GATES

ARCH = dict(block='basic', depths=(2, 1, 2, 1), stem_stride=2)
IMAGES = torch.randn(9, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def build(gate):
    """A small network whose gates differ from image to image."""
    torch.manual_seed(0)
    trunk = SkipNet(build_feature_branch(ARCH, 0.125, 0.), gate)
    for block in trunk.blocks:
        # So that a block adds something.
        block.block.bn2[0].weight.fill_(1)
    for _ in range(20):
        trunk.train()(torch.randn(16, 3, 32, 32))
    trunk.eval()
    x, memory = trunk.stem(IMAGES), None
    for block in trunk.blocks:
        ran = torch.ones(len(IMAGES))
        if block.gate is not None:
            last = block.gate[-1]
            last.weight.mul_(100)
            last.bias.sub_(block.gate(x).mean(0))
            ran, memory = trunk.decide(block.gate, x, memory)
        x = block(x, ran)
    return trunk


def simulated(trunk, x, weigh):
    """The pooled vectors and how far each image runs each block, everything
    computed for all; ``weigh`` makes that of how likely it is."""
    x, ran, state = trunk.stem(x), [], None
    for block in trunk.blocks:
        if block.gate is None:
            likely = torch.ones(len(x))
        elif trunk.control is None:
            likely = block.gate(x).softmax(1)[:, 1]
        else:
            state = trunk.control.cell(block.gate(x), state)
            likely = trunk.control.last(state[0]).sigmoid()[:, 0]
        ran.append(weigh(likely))
        shortcut = block.block.downsample(x) if block.block.downsample else x
        share = ran[-1][:, None, None, None]
        x = share * F.relu(shortcut + block.residual(x)) + (1 -
                                                            share) * shortcut
    return x.mean((2, 3)), torch.stack(ran, 1)


@torch.no_grad()
@pytest.mark.parametrize('gate', GATES)
def test_skipping_equals_the_simulation_and_is_not_computed(gate):
    trunk, seen = build(gate), []
    wanted, ran = simulated(trunk, IMAGES, lambda likely: (likely > 0.5) * 1.)
    for number, block in enumerate(trunk.blocks):
        block.block.conv1.register_forward_hook(
            lambda layer, given, out, number=number: seen.append(
                (number, len(out))))
    state, (vector, ) = trunk.segment(0, trunk.initial_state(IMAGES))
    assert torch.equal(state.ran, ran)
    torch.testing.assert_close(vector, wanted)
    assert len({tuple(row) for row in ran.tolist()}) > 2
    counts = ran.sum(0).int().tolist()
    assert seen == [(k, count) for k, count in enumerate(counts) if count]
    assert counts[0] == len(IMAGES) > min(counts)
    torch.testing.assert_close(
        vector[3:4], trunk(IMAGES[3:4])[0][0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('gate', GATES)
@pytest.mark.parametrize('soft', [True, False])
def test_gates_are_soft_and_then_hard(gate, soft):
    trunk = build(gate)
    net = EarlyExitNet(trunk, 5).train()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    trunk.soft = soft
    state, (vector, ) = trunk.segment(0, trunk.initial_state(IMAGES))
    wanted, ran = simulated(trunk, IMAGES, lambda x: x
                            if soft else (x > 0.5) * 1.)
    torch.testing.assert_close(vector, wanted, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(state.ran, ran, atol=1e-4, rtol=1e-4)
    # The first block has no gate, and no price.
    price = ran[:, 1:].mean()
    torch.testing.assert_close(
        trunk.rate_loss(), price * (not soft), atol=1e-4, rtol=1e-4)
    (net.exits.step(0, (vector, ))[0].square().sum() +
     trunk.rate_loss()).backward()
    assert [n for n, p in net.named_parameters() if p.grad is None] == []
    for name, parameter in net.named_parameters():
        if '.gate.' in name or '.control.last' in name:
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize('gate, depth, parameters, share', [
    ('rnn', 6, 571_913 - 650, 0.0002),
    ('ff1', 6, 1_148_798 - 74_114, 5 / 32),
    ('ff2', 18, 2_609_798 - 37_122, 1 / 8),
])
def test_is_the_published(gate, depth, parameters, share):
    """As the authors' code, but for its gate behind the last block, which
    decides nothing; a gate's MACs by those of its block."""
    with torch.device('meta'):
        branch = build_feature_branch(
            dict(block='basic', depths=(depth, ) * 3, stem_stride=1), 0.25, 0.)
        trunk = on_meta(SkipNet(branch, gate))
        net = on_meta(EarlyExitNet(trunk, 10))
    assert sum(p.numel() for p in net.parameters()) == parameters
    total, = macs_per_exit(*net.exit_parts(), (3, 32, 32))
    blocks = trunk.block_macs((3, 32, 32))
    # 3x3 convolutions of 64 channels at 8 by 8.
    assert blocks[-1] == 2 * 64 * 64 * 9 * 64
    rest = 32 * 32 * 16 * 27 + 2 * 8 * 8 * 64 * 32 + 640
    gates = (total - sum(blocks) - rest) / sum(blocks)
    assert gates == pytest.approx(share, rel=0.1, abs=5e-4)


def test_three_stages_are_for_these_alone():
    arch = dict(block='basic', depths=(1, 1, 1), stem_stride=1)
    with pytest.raises(ValueError, match='stages needs four, got.* 3'):
        ConvTrunk(arch, 0.125)
    with pytest.raises(ValueError, match='three or four whole.*(1, 1)'):
        build_feature_branch(dict(arch, depths=(1, 1)))


def test_refuses():
    with pytest.raises(ValueError, match="gate must be one of rnn.*'none'"):
        SkipNet(build_feature_branch(ARCH, 0.125, 0.), 'none')
