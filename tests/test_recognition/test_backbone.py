# Copyright (c) mmdynperceiver contributors. All rights reserved.
import pytest
import torch
from mmaction.registry import MODELS
from torch import nn

import mmdynperceiver.recognition  # noqa: F401
from mmdynperceiver.core import Trunk
from mmdynperceiver.core.dyn_perceiver import build_exits
from mmdynperceiver.errors import InputError
from mmdynperceiver.recognition import ShiftedConv2d

TINY = dict(width=0.25, num_latents=16, depth_factor=(0, 0, 0, 0))


def build(**kwargs):
    return MODELS.build({
        'type': 'DynPerceiverTSM',
        'arch': 'resnet18',
        'num_segments': 4,
        **TINY,
        **kwargs
    })


@pytest.fixture
def classifier(tmp_path):
    """A checkpoint of an image classifier with other classes."""
    trunk = Trunk('resnet18', **TINY)
    parts = {'backbone.net': trunk, 'head.exits': build_exits(trunk, 7)}
    weights = {
        f'{prefix}.{name}': value
        for prefix, module in parts.items()
        for name, value in module.state_dict().items()
    }
    path = str(tmp_path / 'classifier.pth')
    torch.save(dict(state_dict=weights), path)
    return path, trunk


@pytest.fixture
def logged(monkeypatch):
    """What loading reports."""
    reports = []
    monkeypatch.setattr('mmdynperceiver.hosts.trunk_backbone.print_log',
                        lambda text, **kwargs: reports.append(text))
    return reports


def test_weights_of_images(classifier, logged):
    path, trunk = classifier
    backbone = build(
        init_cfg=dict(type='Pretrained', checkpoint=path, prefix='backbone.'))
    backbone.init_weights()
    text, = logged
    for name, value in trunk.state_dict().items():
        assert torch.equal(backbone.net.state_dict()[name], value), name
    total = len(trunk.state_dict())
    assert f'{total} of {total} entries are loaded' in text
    assert 'without the prefix' in text and 'head.exits.' in text


def test_weights_of_images_that_fit_in_part(classifier, logged):
    path, _ = classifier
    backbone = build(
        num_latents=32,
        init_cfg=dict(type='Pretrained', checkpoint=path, prefix='backbone.'))
    before = backbone.net.latents.clone()
    backbone.init_weights()
    text, = logged
    assert 'other shape' in text and 'net.latents' in text
    assert torch.equal(backbone.net.latents, before)


def test_weights_of_nothing(classifier):
    path, _ = classifier
    backbone = build(
        init_cfg=dict(type='Pretrained', checkpoint=path, prefix='model.'))
    with pytest.raises(
            InputError, match='nothing of .*names begin with '
            'backbone, head'):
        backbone.init_weights()


def test_partial_bn():
    backbone = build(partial_bn=True).train()
    norms = [
        module for module in backbone.modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    assert norms[0] is backbone.net.stem[1]
    assert norms[0].training and norms[0].weight.requires_grad
    assert len(norms) > 10
    for norm in norms[1:]:
        assert not norm.training and not norm.weight.requires_grad
    assert backbone.net.stages[0].conv[0].conv1.weight.requires_grad
    before = norms[1].running_mean.clone()
    backbone(torch.rand(4, 3, 32, 32))
    assert torch.equal(norms[1].running_mean, before)
    assert all(norm.training for norm in _norms(build().train()))


def _norms(module):
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


def test_without_shift():
    backbone = build(is_shift=False)
    assert not any(isinstance(m, ShiftedConv2d) for m in backbone.modules())
    # Any number of images, not clips.
    assert backbone.eval()(torch.rand(3, 3, 32, 32))[0][0].shape == (3, 32)


def test_frozen_stages():
    backbone = build(frozen_stages=1).train()
    assert not backbone.net.stages[0].training
    assert backbone.net.stages[1].training
