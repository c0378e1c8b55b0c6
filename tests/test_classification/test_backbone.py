# Copyright (c) mmdynperceiver contributors. All rights reserved.
import pytest
import torch
from mmpretrain.registry import MODELS

from mmdynperceiver.classification import DynPerceiverBackbone

TINY = dict(arch='resnet18', width=0.25, num_latents=16)
IMAGES = torch.rand(2, 3, 32, 32)


def build(**kwargs):
    return MODELS.build(dict(type='DynPerceiverBackbone', **TINY, **kwargs))


def test_returns_what_each_exit_classifies():
    backbone = build().eval()
    assert isinstance(backbone, DynPerceiverBackbone)
    feats = backbone(IMAGES)
    widths = tuple(tuple(v.shape[1] for v in vectors) for vectors in feats)
    assert widths == backbone.net.exit_channels
    for ours, expected in zip(feats, backbone.net(IMAGES)):
        for vector, other in zip(ours, expected):
            torch.testing.assert_close(vector, other)


def test_pretrained_with_prefix(tmp_path):
    source = build()
    path = str(tmp_path / 'c.pth')
    weights = {f'backbone.{k}': v for k, v in source.state_dict().items()}
    torch.save(dict(state_dict={**weights, 'head.x': torch.zeros(1)}), path)
    backbone = build(
        init_cfg=dict(type='Pretrained', checkpoint=path, prefix='backbone.'))
    assert not torch.equal(backbone.net.latents, source.net.latents)
    backbone.init_weights()
    for name, value in source.state_dict().items():
        assert torch.equal(backbone.state_dict()[name], value), name


def test_frozen_stages():
    backbone = build(frozen_stages=2).train()
    assert not backbone.net.latents.requires_grad
    for module in (backbone.net.stem, *backbone.net.stages[:2]):
        assert not module.training
        assert not any(p.requires_grad for p in module.parameters())
    for module in backbone.net.stages[2:]:
        assert module.training
        assert all(p.requires_grad for p in module.parameters())


def test_nothing_is_frozen_by_default():
    backbone = build().train()
    assert all(p.requires_grad for p in backbone.parameters())
    assert all(m.training for m in backbone.modules())


def test_norm_eval():
    backbone = build(norm_eval=True).train()
    norms = [
        m for m in backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)
    ]
    assert norms and not any(norm.training for norm in norms)
    assert backbone.net.stages[0].training


@pytest.mark.parametrize('value', [-2, 5, 1.5])
def test_refuses_frozen_stages(value):
    with pytest.raises(ValueError, match=f'got {value}'):
        build(frozen_stages=value)


def test_unknown_arch_lists_the_known():
    with pytest.raises(ValueError, match='regnety-800mf'):
        MODELS.build(dict(type='DynPerceiverBackbone', arch='vgg'))


def test_feature_branch_alone():
    backbone = MODELS.build(
        dict(
            type='ConvBackbone',
            arch='resnet18',
            width=0.25,
            exit_stages=(1, 3),
            frozen_stages=2))
    backbone.train()
    feats = backbone(IMAGES)
    assert [[v.shape for v in vectors] for vectors in feats] == [[(2, 32)],
                                                                 [(2, 128)]]
    sum(v.sum() for vectors in feats for v in vectors).backward()
    trained = {
        name
        for name, p in backbone.named_parameters() if p.grad is not None
    }
    assert trained and all(
        name.startswith(('net.stages.2', 'net.stages.3')) for name in trained)
    assert not backbone.net.stages[1].training


def test_weights_move_between_the_trunks():
    """The feature branch has the same names alone and in the trunk."""
    static = MODELS.build(
        dict(type='ConvBackbone', arch='resnet18', width=0.25))
    backbone = build()
    found = backbone.load_state_dict(static.state_dict(), strict=False)
    assert not found.unexpected_keys
    for name, value in static.state_dict().items():
        assert torch.equal(backbone.state_dict()[name], value), name
