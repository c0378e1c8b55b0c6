# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Weights of torchvision and timm in the feature branch."""
import pytest
import torch
from torch import nn
from torchvision import models

from mmdynperceiver.core import (DynPerceiver, create_model,
                                 load_branch_weights, parameter_groups)
from mmdynperceiver.core.feature_branch.torchvision_nets import \
    torchvision_body

SMALL = dict(num_latents=8, num_classes=3, depth_factor=(0, 0, 1 / 9, 1 / 3))
NETWORKS = {
    'regnety-400mf': 'regnet_y_400mf',
    'resnet18': 'resnet18',
    'mobilenetv3-large': 'mobilenet_v3_large',
    'torchvision.mobilenet_v2': 'mobilenet_v2',
}
TIMM = {'regnety-400mf': 'regnety_004', 'resnet18': 'resnet18'}


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.randn(2, 3, 64, 64)


def shaken(net):
    """Statistics and factors as no new network has them."""
    torch.manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    return net.eval()


@torch.no_grad()
def branch_output(trunk, images):
    for part in trunk.branch_modules():
        images = part(images)
    return images


@pytest.mark.parametrize('arch', list(NETWORKS))
def test_torchvision(arch, images, tmp_path):
    whole = shaken(models.get_model(NETWORKS[arch], weights=None))
    path = tmp_path / 'whole.pth'
    torch.save(whole.state_dict(), path)
    net = create_model(arch, backbone_weights=path, **SMALL)
    body = torchvision_body(NETWORKS[arch]).eval()
    body.load_state_dict(
        {name: whole.state_dict()[name]
         for name in body.state_dict()})
    with torch.no_grad():
        expected = body(images)
    assert torch.equal(branch_output(net.trunk, images), expected)
    report = load_branch_weights(net.trunk, whole.state_dict())
    assert 'the given weights; not needed: ' in report


@pytest.mark.parametrize('arch', list(TIMM))
def test_timm(arch, images):
    timm = pytest.importorskip('timm')
    whole = shaken(timm.create_model(TIMM[arch], num_classes=3))
    net = DynPerceiver(arch, **SMALL).eval()
    load_branch_weights(net.trunk, whole.state_dict())
    with torch.no_grad():
        expected = whole.forward_features(images)
    torch.testing.assert_close(branch_output(net.trunk, images), expected)


def test_all_or_nothing():
    net = DynPerceiver('resnet18', **SMALL)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    weights = models.resnet18().state_dict()
    for change, message in ((dict(other=torch.zeros(1)),
                             'missing: layer3.1.bn2.weight'), ({
                                 'layer3.1.bn2.weight':
                                 torch.zeros(3)
                             }, r'wrong shape.*\(3,\)'), ({
                                 'layer3.1.bn2.weight':
                                 torch.full((256, ), torch.nan)
                             }, 'NaN')):
        given = {k: v for k, v in weights.items() if 'layer3.1.bn2.w' not in k}
        with pytest.raises(ValueError, match=message):
            load_branch_weights(net.trunk, {**given, **change})
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])


def test_what_has_no_such_weights():
    timm_mobilenet = {'conv_stem.weight': torch.zeros(1)}
    for arch, options, source, message in (('resnet18', dict(width=0.25), {},
                                            'feature branches that torchvis'),
                                           (dict(
                                               block='basic',
                                               depths=(1, 1, 1, 1)), {}, {},
                                            'torchvision.NAME'),
                                           ('mobilenetv3-large', {},
                                            timm_mobilenet, 'another epsilon'),
                                           ('resnet18', {}, 'IMAGENET1K_V9',
                                            'IMAGENET1K_V1, DEFAULT'),
                                           ('resnet18', {}, 'timm.resnet0',
                                            'cannot fetch.*timm.resnet0'),
                                           ('resnet18', {}, 'here/none.pth',
                                            'no checkpoint file')):
        trunk = DynPerceiver(arch, **SMALL, **options).trunk
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            load_branch_weights(trunk, source)


def test_frozen_or_with_its_own_rate(images):
    net = create_model('resnet18', width=0.25, freeze_backbone=True, **SMALL)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    group, = parameter_groups(net.train(), lr=0.1)
    assert group['lr'] == 0.1
    optimizer = torch.optim.SGD([group])
    sum(logits.square().sum() for logits in net(images)).backward()
    optimizer.step()
    changed = {
        name
        for name, value in net.state_dict().items()
        if not torch.equal(value, state[name])
    }
    branch = {n for n in state if n.startswith('trunk.stem') or '.conv.' in n}
    assert branch and not branch & changed
    assert {'trunk.latents', 'exits.classifiers.0.weight'} <= changed

    both = parameter_groups(DynPerceiver('resnet18', width=0.25, **SMALL), 1.)
    assert [group['lr'] for group in both] == [0.1, 1.]
    counts = [sum(p.numel() for p in group['params']) for group in both]
    assert sum(counts) == sum(p.numel() for p in net.parameters())
    assert counts[0] == sum(p.numel() for part in net.trunk.branch_modules()
                            for p in part.parameters())
