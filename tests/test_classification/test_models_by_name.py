# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The names of the core are those of the configs, and mean the same."""
import subprocess
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from tiny import ROOT, build_model, model_config
from torchvision import models

from mmdynperceiver.core import create_model, list_models
from mmdynperceiver.core.models import model_settings
from mmdynperceiver.errors import InputError

CONFIGS = ROOT / 'configs'
# Their feature branch is that of a host.
OF_HOSTS = ('convnext-tiny', 'efficientnet-b0')
# The loss is another one, not the network.
SAME_NETWORK = ('regnety-400mf-no-distill', )


def settings_of(path):
    """What a config says of its network."""
    model = Config.fromfile(path).model
    backbone = {k: v for k, v in model.backbone.items() if k != 'type'}
    head = {k: model.head[k] for k in ('fkt', 'dropout') if k in model.head}
    return {**backbone, **head}


def test_each_config_of_imagenet_has_a_name():
    for path in sorted(CONFIGS.glob('imagenet/dyn-perceiver_*.py')):
        short = path.stem.split('_')[1]
        if short in OF_HOSTS:
            continue
        # The defaults, which some configs write out.
        expected = dict(num_latents=128, width=1.)
        assert expected | settings_of(path) == expected | model_settings(
            short.removesuffix('-no-distill')), path.name
        if short not in SAME_NETWORK:
            assert short in list_models()
            assert model_settings(path.stem) == model_settings(short)


def test_each_latency_first_config_has_a_name():
    for path in sorted(CONFIGS.glob('latency_first/*.py')):
        short = f'latency-first-{path.stem.split("_")[1]}'
        expected = dict(num_latents=16, width=1.)
        assert short in list_models('latency-first-*')
        assert expected | settings_of(path) == expected | model_settings(
            short), path.name
        assert model_settings(path.stem) == model_settings(short)


@pytest.mark.parametrize('name, stem', [
    ('resnet18-cifar', 'cifar/dyn-perceiver_resnet18_1xb128-200e_cifar10'),
    ('resnet22-w025', 'demo/dyn-perceiver_resnet22-w025_1xb128_digits'),
])
def test_the_small_ones(name, stem):
    assert settings_of(CONFIGS / f'{stem}.py') == model_settings(name)


def test_backbone_weights_in_a_config(tmp_path):
    """They load when a training starts, and a checkpoint's prevail later."""
    path = tmp_path / 'mobilenet.pth'
    weights = models.mnasnet0_5().state_dict()
    torch.save(weights, path)
    backbone = dict(
        model_config()['backbone'],
        arch='torchvision.mnasnet0_5',
        backbone_weights=str(path),
        freeze_branch=True)
    del backbone['width']
    model = build_model(backbone=backbone)
    model.init_weights()
    first = model.backbone.net.stem
    assert torch.equal(next(first.parameters()), weights['layers.0.weight'])
    assert not any(p.requires_grad for p in first.parameters())
    assert not any(m.training
                   for m in model.train().backbone.net.stem.modules())
    trained = {
        name: torch.zeros_like(value)
        for name, value in model.state_dict().items()
        if name.startswith('backbone.net.stem.')
    }
    _load_checkpoint_to_model(model, trained)
    assert not any(p.any() for p in first.parameters())

    backbone['backbone_weights'] = str(tmp_path / 'none.pth')
    with pytest.raises(InputError, match='no checkpoint file'):
        build_model(backbone=backbone).init_weights()
    with pytest.raises(ValueError, match='torchvision has under a name'):
        build_model(backbone=dict(backbone, arch='resnet18', width=0.25))


def test_create_model_reads_a_checkpoint_of_a_host(tmp_path):
    model = build_model().eval()
    torch.save(
        dict(meta={}, state_dict=model.state_dict()), tmp_path / 'model.pth')
    settings = {
        k: v
        for k, v in model_config()['backbone'].items() if k != 'type'
    }
    net = create_model(
        settings.pop('arch'), tmp_path / 'model.pth', **settings)
    images = torch.randn(2, 3, 64, 64)
    for one, other in zip(net(images), model(images, mode='tensor')):
        assert torch.equal(one, other)


def test_mmpretrain_takes_a_checkpoint_by_name(tmp_path):
    from mmpretrain import get_model
    name = 'dyn-perceiver_resnet22-w025_1xb128-10e_cifar10-folder'
    model = get_model(name)
    model.policy.set_thresholds((0.5, 0.6, 0.7))
    path = tmp_path / 'model.pth'
    torch.save(dict(meta={}, state_dict=model.state_dict()), path)
    found = get_model(name, pretrained=str(path))
    assert found.policy.thresholds == (0.5, 0.6, 0.7)
    for one, other in zip(model.parameters(), found.parameters()):
        assert torch.equal(one, other)


def test_a_training_is_read_where_mmengine_is_not_imported(tmp_path):
    """What it logged is allowed with mmengine, which is imported for it."""
    from mmengine.logging import HistoryBuffer
    path = tmp_path / 'epoch_1.pth'
    torch.save(
        dict(
            meta={},
            message_hub=dict(log_scalars=dict(loss=HistoryBuffer([1.], [1]))),
            state_dict=build_model().state_dict()), path)
    code = 'import sys; from mmdynperceiver.core.models import ' \
        'network_weights; assert "mmengine" not in sys.modules; ' \
        f'print(len(network_weights({str(path)!r})))'
    result = subprocess.run([sys.executable, '-c', code],
                            capture_output=True,
                            text=True)
    assert result.stdout.strip() == str(len(build_model().state_dict())), \
        result.stderr
