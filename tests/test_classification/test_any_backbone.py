# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""MMPretrain's own backbones as the feature branch of a classifier."""
import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from tiny import build_model

IMAGES = torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))
ARCHS = dict(
    convnext=dict(
        type='ConvNeXt',
        arch=dict(depths=[1, 1, 2, 1], channels=[16, 32, 64, 72]),
        gap_before_final_norm=False),
    efficientnet=dict(type='mmpretrain.EfficientNet', arch='b0'),
    resnet=dict(
        type='mmpretrain.ResNet', depth=18, stem_channels=16,
        base_channels=16))


@pytest.fixture(params=ARCHS)
def model(request):
    torch.manual_seed(0)
    backbone = dict(
        type='DynPerceiverBackbone',
        arch=ARCHS[request.param],
        num_latents=16,
        depth_factor=(0, 0, 1 / 9, 1 / 3))
    model = build_model(backbone=backbone)
    model.init_weights()
    return model


def samples():
    return [DataSample().set_gt_label(index % 5) for index in range(6)]


def test_every_parameter_gets_a_gradient(model):
    losses = model.train()(IMAGES, samples(), mode='loss')
    model.parse_losses(losses)[0].backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_macs_grow_from_exit_to_exit(model):
    macs = model.macs_per_exit((3, 64, 64))
    assert 0 < macs[0] < macs[1] < macs[2] < macs[3]


def test_leaves_early_as_replayed(model):
    model.eval()
    with torch.no_grad():
        confidence = [t.softmax(1).amax(1) for t in model(IMAGES)]
    thresholds = [c.median().item() for c in confidence[:3]]
    model.policy.set_thresholds(thresholds)
    early = model.predict(IMAGES)
    model.evaluate_all_exits = True
    replayed = model.predict(IMAGES)
    assert len({sample.exit_index for sample in early}) > 1
    for ours, expected in zip(early, replayed):
        assert ours.exit_index == expected.exit_index
        assert ours.macs == expected.macs
        torch.testing.assert_close(ours.pred_score, expected.pred_score)


@pytest.mark.parametrize('name', ARCHS)
def test_as_a_static_network(name):
    config = Config(
        dict(type='ConvBackbone', arch=ARCHS[name], exit_stages=(2, 3)))
    backbone = MODELS.build(config)
    feats = backbone(IMAGES)
    assert [[v.shape[1] for v in vectors] for vectors in feats
            ] == [list(widths) for widths in backbone.net.exit_channels]
