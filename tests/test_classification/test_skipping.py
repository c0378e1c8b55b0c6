# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A classifier that skips blocks tells what each image took."""
from types import SimpleNamespace

import pytest
import torch
from mmpretrain.structures import DataSample
from tiny import build_model

from mmdynperceiver.classification import SoftGatesHook
from mmdynperceiver.errors import InputError

IMAGES = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def build(kind='ConvAIGBackbone', settings=dict(target_rate=0.5), **changes):
    return build_model(
        type='SkippingClassifier',
        backbone=dict(
            type=kind,
            arch=dict(block='basic', depths=(1, 1, 1, 1), stem_stride=2),
            width=0.125,
            **settings),
        **changes)


@torch.no_grad()
def test_macs_of_an_image_are_those_of_its_blocks():
    torch.manual_seed(0)
    model = build()
    trunk = model.backbone.net
    for block in trunk.blocks:
        block.gate.layers[-1].weight.mul_(100)
        block.gate.layers[-1].bias.zero_()
    for _ in range(5):
        trunk.train()(torch.randn(16, 3, 32, 32))
    model.eval()
    samples = model.predict(IMAGES)
    state, _ = trunk.segment(0, trunk.initial_state(IMAGES))
    total, = model.macs_per_exit((3, 32, 32))
    blocks = trunk.block_macs((3, 32, 32))
    for sample, ran in zip(samples, state.ran):
        saved = sum(m for m, one in zip(blocks, ran.tolist()) if not one)
        assert sample.macs == total - saved
        assert sample.exit_macs == (total, ) and sample.exit_index == 0
    assert len({sample.macs for sample in samples}) > 1
    logits = torch.cat([model(IMAGES[k:k + 1])[0] for k in range(6)])
    found = torch.stack([sample.exit_logits[0] for sample in samples])
    torch.testing.assert_close(found, logits, atol=1e-4, rtol=1e-4)


def test_the_rate_is_part_of_the_loss():
    model = build(rate_weight=3.).train()
    samples = [DataSample().set_gt_label(k % 5) for k in range(6)]
    trunk, seen = model.backbone.net, []
    rate_loss = trunk.rate_loss
    trunk.rate_loss = lambda: seen.append(rate_loss()) or seen[-1]
    losses = model.loss(IMAGES, samples)
    torch.testing.assert_close(losses['loss_rate'], 3 * seen[0])
    assert trunk.rates == []
    assert 0 <= losses['rate'] <= 1 and not losses['rate'].requires_grad
    model.parse_losses(losses)[0].backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_refuses_a_negative_weight():
    with pytest.raises(ValueError, match='rate_weight.*-1'):
        build(rate_weight=-1)


def test_gates_are_soft_for_a_share_of_the_training():
    model = build(rate_weight=0.1)
    runner = SimpleNamespace(model=model, iter=0, max_iters=10)
    with pytest.raises(InputError, match='SkipNetBackbone, got.* ConvAIG'):
        SoftGatesHook().before_train(runner)
    with pytest.raises(ValueError, match='until.*1.5'):
        SoftGatesHook(1.5)
    model = runner.model = build('SkipNetBackbone', {}, rate_weight=0.1)
    model.train()
    samples = [DataSample().set_gt_label(k % 5) for k in range(6)]
    hook, soft, prices = SoftGatesHook(0.3), [], []
    hook.before_train(runner)
    for runner.iter in range(10):
        hook.before_train_iter(runner, runner.iter)
        soft.append(model.backbone.net.soft)
        if runner.iter in (2, 3):
            losses = model.loss(IMAGES, samples)
            model.parse_losses(losses)[0].backward()
            prices.append((losses['loss_rate'].item(), losses['rate'].item()))
    assert soft == [True] * 3 + [False] * 7
    (free, share), (price, rate) = prices
    assert free == 0 and 0 < share < 1
    assert price == pytest.approx(0.1 * rate)
    # Of three gates and six images.
    assert 18 * rate == pytest.approx(round(18 * rate), abs=1e-3)
