# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Which network given weights are of."""
import pytest
import torch
from torchvision.models import get_model

from mmdynperceiver.errors import InputError
from mmdynperceiver.fitting import plan as planning
from mmdynperceiver.fitting.options import FitOptions
from mmdynperceiver.fitting.weights import arch_of_weights

COUNTS = dict(train=100, val=20, test=20)


@pytest.mark.parametrize('name, classes', [('mobilenet_v2', 1000),
                                           ('mobilenet_v3_small', 7)])
def test_of_the_files_of_torchvision(name, classes, tmp_path):
    weights = get_model(name, num_classes=classes).state_dict()
    torch.save(weights, tmp_path / 'a.pth')
    assert arch_of_weights(str(tmp_path / 'a.pth')) == f'torchvision.{name}'


def test_of_other_files(tmp_path):
    path = str(tmp_path / 'a.pth')
    with pytest.raises(InputError, match='no .*file'):
        arch_of_weights(path)
    torch.save(dict(a=torch.zeros(1)), path)
    with pytest.raises(InputError, match="none of these.*begin with 'a'"):
        arch_of_weights(path)


def test_a_saved_network_and_its_twin(tmp_path):
    hub = pytest.importorskip('mmdynperceiver.hub')
    from mmpretrain.registry import MODELS
    net = hub.ImageClassifier(
        arch=dict(block='basic', depths=[1, 1, 1, 1]),
        width=0.125,
        num_latents=8,
        num_classes=3,
        preprocessing=dict(
            size=[48, 48], mean=[0.] * 3, std=[1.] * 3, steps=[]))
    net.save_pretrained(tmp_path / 'saved')
    options = FitOptions(
        'data', tmp_path / 'out', pretrained=tmp_path / 'saved', threads=1)
    plan = planning.choose_plan(options, COUNTS, 5, 300., 1.)
    assert plan.image_size == 48
    for config, own in ((plan.backbone, net.trunk), (plan.static, None)):
        backbone = MODELS.build(config)
        backbone.init_weights()
        loaded = backbone.net.state_dict()
        wanted = net.trunk.state_dict()
        assert own is None or loaded.keys() == wanted.keys()
        assert len(loaded) > 20
        assert all(torch.equal(loaded[name], wanted[name]) for name in loaded)


def test_a_saved_network_says_all_of_it(tmp_path):
    with pytest.raises(InputError, match='leave out arch and width'):
        FitOptions('a', 'b', pretrained='c', arch='resnet18', width=1)
    options = FitOptions('a', tmp_path / 'b', pretrained=tmp_path / 'none')
    with pytest.raises(InputError, match='none'):
        planning.choose_plan(options, COUNTS, 5, 300., 1.)
