# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Blocks that are skipped image by image: as simulated, and not computed."""
import pytest
import torch
import torch.nn.functional as F

from mmdynperceiver.core import (ConvTrunk, EarlyExitNet, build_feature_branch,
                                 macs_per_exit)
from mmdynperceiver.core.accelerate.copies import on_meta
from mmdynperceiver.core.networks import ConvAIG

ARCH = dict(block='basic', depths=(1, 1, 2, 1), stem_stride=2)
IMAGES = torch.randn(9, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def build(**settings):
    """A small network whose gates differ from image to image."""
    torch.manual_seed(0)
    trunk = ConvAIG(build_feature_branch(ARCH, 0.125, 0.), **settings)
    with torch.no_grad():
        for block in trunk.blocks:
            block.gate.layers[-1].weight.mul_(100)
            block.gate.layers[-1].bias.zero_()
            # So that a block adds something.
            block.block.bn2[0].weight.fill_(1)
        trunk.train()
        for _ in range(20):
            trunk(torch.randn(16, 3, 32, 32))
    return trunk.eval()


@torch.no_grad()
def test_skipping_equals_the_simulation():
    trunk = build()
    state, (vector, ) = trunk.segment(0, trunk.initial_state(IMAGES))
    x, ran = trunk.stem(IMAGES), []
    for block in trunk.blocks:
        runs = block.gate(x).argmax(1).float()
        shortcut = block.block.downsample(x) if block.block.downsample else x
        x = F.relu(shortcut + runs[:, None, None, None] * block.residual(x))
        ran.append(runs)
    assert torch.equal(state.ran, torch.stack(ran, 1))
    assert 0 < state.ran.mean() < 1
    assert len({tuple(row) for row in state.ran.tolist()}) > 2
    torch.testing.assert_close(vector, x.mean((2, 3)))
    torch.testing.assert_close(
        vector[3:4], trunk(IMAGES[3:4])[0][0], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_images_that_skip_are_not_computed():
    trunk, seen = build(), []
    for block in trunk.blocks:
        block.block.conv1.register_forward_hook(
            lambda layer, given, out, block=block: seen.append(
                (block, len(out))))
    ran = trunk.segment(0, trunk.initial_state(IMAGES))[0].ran.sum(0)
    expected = [(block, int(count)) for block, count in zip(trunk.blocks, ran)
                if count]
    assert seen == expected
    assert sum(count for _, count in seen) < len(trunk.blocks) * len(IMAGES)


@torch.no_grad()
@pytest.mark.parametrize('runs', [False, True])
def test_all_run_or_none(runs):
    trunk = build()
    for block in trunk.blocks:
        block.gate.layers[-1].weight.zero_()
        block.gate.layers[-1].bias.copy_(torch.tensor([0., 2 * runs - 1.]))
    ran = trunk.segment(0, trunk.initial_state(IMAGES))[0].ran
    assert ran.unique().tolist() == [float(runs)]
    if runs:
        plain = ConvTrunk(ARCH, 0.125, 0.).eval()
        plain.load_state_dict({
            name: value
            for name, value in zip(plain.state_dict(), [
                value for name, value in trunk.state_dict().items()
                if '.gate.' not in name
            ])
        })
        torch.testing.assert_close(trunk(IMAGES), plain(IMAGES))


def test_training_draws_and_holds_the_rate():
    trunk = build(target_rate=0.5).train()
    net = EarlyExitNet(trunk, 5).train()
    loss = net(IMAGES)[0].square().sum() + trunk.rate_loss()
    loss.backward()
    assert [n for n, p in net.named_parameters() if p.grad is None] == []
    assert any(p.grad.abs().sum() > 0 for block in trunk.blocks
               for p in block.gate.parameters())
    rates = torch.stack(trunk.rates)
    assert len(rates) == len(trunk.blocks)
    torch.testing.assert_close(trunk.rate_loss(),
                               (rates - 0.5).square().mean())
    drawn = [trunk(IMAGES)[0][0].detach() for _ in range(2)]
    assert not torch.equal(*drawn)


def test_costs_a_resnet_and_its_gates():
    branch = build_feature_branch('resnet50', 1., 0.)
    trunk = on_meta(ConvAIG(branch))
    net = on_meta(EarlyExitNet(trunk, 1000))
    inputs = (64, *[256] * 3, *[512] * 4, *[1024] * 6, *[2048] * 2)
    gates = [c * 16 + 2 * 16 + 16 * 2 + 2 for c in inputs]
    assert sum(p.numel() for p in net.parameters()) == 25_557_032 + sum(gates)
    total, = macs_per_exit(*net.exit_parts(), (3, 224, 224))
    assert total == pytest.approx(4.09e9, rel=0.005)
    blocks = trunk.block_macs((3, 224, 224))
    assert len(blocks) == 16
    # 1x1, 3x3 and 1x1 convolutions of the last stage.
    assert blocks[-1] == 49 * (2048 * 512 * 2 + 512 * 512 * 9)


def test_refuses():
    with pytest.raises(ValueError, match='target_rate.*got 0'):
        ConvAIG(build_feature_branch(ARCH, 0.125, 0.), 0)
    with pytest.raises(ValueError, match='residual blocks'):
        ConvAIG(build_feature_branch('mobilenetv3-large', 0.25))
