# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Networks by name, and new classifiers for them."""
import pytest
import torch

import mmdynperceiver
from mmdynperceiver.core import (DynPerceiver, ExitPolicy, create_model,
                                 list_models)
from mmdynperceiver.io.checkpoint_file import atomic_save

SMALL = dict(num_latents=8, depth_factor=(0, 0, 1 / 9, 1 / 3))
TINY = dict(SMALL, width=0.25)


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.randn(2, 3, 64, 64)


def test_names_are_listed_by_patterns():
    names = list_models()
    assert names == sorted(set(names)) and 'regnety-800mf' in names
    assert list_models('*-w0[5-9]*') == [
        'latency-first-mobilenetv3-large-w075', 'mobilenetv3-large-w075',
        'resnet50-w050', 'resnet50-w0625', 'resnet50-w075'
    ]
    assert list_models(['resnet18', 'resnet3*']) == ['resnet18', 'resnet34']
    assert list_models('nothing') == []
    assert 'torchvision.mobilenet_v2' in list_models('torchvision.mob*')
    assert not [n for n in names if n.startswith('torchvision')]


def test_the_package_has_them_when_they_are_asked_for():
    assert mmdynperceiver.create_model is create_model
    assert mmdynperceiver.list_models is list_models
    assert 'from_pretrained' in mmdynperceiver.__all__


def test_an_unknown_name_says_what_is_near():
    with pytest.raises(ValueError, match='regnety-400mf.*list_models'):
        create_model('regnety-400')
    with pytest.raises(ValueError, match='such as.*mobilenet_v2'):
        create_model('torchvision.mobilenet_v22')
    with pytest.raises(TypeError, match='widht'):
        create_model('resnet18', widht=0.25)


def test_options_prevail_over_the_name():
    net = create_model('resnet22-w025', num_classes=7, num_latents=16)
    assert net.num_classes == 7 and not net.training
    assert net.trunk.latents.shape[0] == 16 and net.settings['width'] == 0.25


def test_features_and_a_new_classifier(images):
    net = create_model('resnet18', num_classes=5, **TINY)
    net.policy = ExitPolicy(4, (0.5, 0.5, 0.5))
    with torch.no_grad():
        before = net.forward_features(images)
        pooled = net.trunk(images)[-1]
    assert torch.equal(before.x.mean((2, 3)), pooled[0])
    assert torch.equal(before.z.mean(1), pooled[1])
    assert net.get_classifier() is net.exits
    net.reset_classifier(3)
    assert net.num_classes == 3 and net.policy.thresholds is None
    assert [logits.shape for logits in net(images)] == [(2, 3)] * 4
    assert torch.equal(net.forward_features(images).x, before.x)
    with pytest.raises(ValueError, match='num_classes must be'):
        net.reset_classifier(0)
    assert net.num_classes == 3


@pytest.mark.parametrize('kind', ['own', 'host'])
def test_pretrained_files(kind, images, tmp_path):
    """Of the network, or of a host's model that holds it."""
    net = create_model('resnet18', num_classes=5, **TINY)
    net.policy = ExitPolicy(4, (0.5, 0.6, 0.7))
    weights = net.state_dict()
    if kind == 'host':
        places = dict(trunk='backbone.net', exits='head.exits')
        weights = dict(
            meta={},
            state_dict={
                '.'.join((places.get(name.partition('.')[0], 'policy'),
                          name.partition('.')[2])):
                value
                for name, value in weights.items()
            })
    path = tmp_path / 'net.pth'
    atomic_save(weights, path)
    found = create_model('resnet18', path, **TINY)
    assert found.num_classes == 5
    assert found.policy.thresholds == (0.5, 0.6, 0.7)
    for one, other in zip(net(images), found(images)):
        assert torch.equal(one, other)
    # Other classes: the trunk, and what fits of the exits.
    other = create_model('resnet18', path, num_classes=4, **TINY)
    assert other.policy.thresholds is None and other.num_classes == 4
    for one, two in zip(net.trunk(images)[-1], other.trunk(images)[-1]):
        assert torch.equal(one, two)
    with pytest.raises(ValueError, match=r'net.pth.*wrong shape: trunk'):
        create_model('resnet18', path, **dict(TINY, width=0.5))


def test_pretrained_files_that_are_none(tmp_path):
    path = tmp_path / 'net.pth'
    atomic_save({'layer.weight': torch.zeros(2)}, path)
    for source, message in ((path, "no Dyn-Perceiver.*'layer'"),
                            (tmp_path / 'none.pth', 'no checkpoint file'),
                            (tmp_path, 'is no saved model'),
                            ('nowhere', "no folder 'nowhere'.*owner/")):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            create_model('resnet18', source, **TINY)


def test_torchvision_networks_by_name(images):
    net = create_model(
        'torchvision.mobilenet_v3_small', num_classes=5, **SMALL)
    assert net.trunk.channels == (16, 16, 24, 48, 576)
    assert len(net.predict(images, thresholds=(0, 0, 0)).logits) == 2
    assert isinstance(DynPerceiver(**net.settings), DynPerceiver)
    with pytest.raises(ValueError, match='width and drop_path_rate'):
        create_model('torchvision.mobilenet_v2', width=0.5)
