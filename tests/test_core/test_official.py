# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Published state dicts in, the right variant out."""
import argparse

import pytest
import torch

from mmdynperceiver.core import DynPerceiver, load_official
from . import reference
from .reference import family_of, publish

SMALL = dict(arch='resnet18', width=0.25, num_latents=16, num_classes=7)
VARIANTS = [
    dict(arch='regnety-400mf', num_latents=32, num_classes=5),
    dict(arch='regnety-1600mf', num_latents=64),
    dict(arch='regnety-3200mf', num_latents=16, num_classes=3),
    dict(arch='resnet50', width=0.5, num_latents=64),
    dict(arch='resnet50', width=0.625, num_latents=192, num_classes=11),
    dict(arch='resnet34', num_latents=16, num_classes=4),
    SMALL,
    dict(SMALL, width=0.3),
    dict(arch='mobilenetv3-large', width=0.5, num_latents=16),
    dict(arch='mobilenetv3-large', width=1.25, num_latents=16),
    dict(arch='mobilenetv3-large', width=0.37, num_latents=16),
    dict(SMALL, depth_factor=(1, 2, 1 / 9, 1)),
    dict(SMALL, mlp_ratio=1),
    dict(SMALL, x2z=False),
    dict(SMALL, z2x=False),
    dict(SMALL, dw_conv=False),
    dict(SMALL, last_z2x=False),
    dict(SMALL, fkt=False),
    dict(SMALL, token_mixer=False),
    dict(SMALL, x2z=False, z2x=False, dw_conv=False, last_z2x=False),
]


@pytest.fixture(scope='module')
def small():
    torch.manual_seed(0)
    net = DynPerceiver(**SMALL).eval()
    return net, publish(net.state_dict(), 'resnet')


@pytest.mark.parametrize('kwargs', VARIANTS, ids=str)
def test_every_variant_is_inferred(kwargs):
    family = family_of(kwargs['arch'])
    shapes = publish(DynPerceiver(**kwargs).state_dict(), family)
    published = {k: reference.rule(k, v.shape) for k, v in shapes.items()}
    net = load_official(published)
    assert list(net.state_dict()) == list(DynPerceiver(**kwargs).state_dict())
    again = publish(net.state_dict(), family)
    assert again.keys() == published.keys()
    assert all(torch.equal(again[name], published[name]) for name in again)
    with torch.no_grad():
        logits = net(torch.rand(1, 3, 64, 64))
    assert all(x.isfinite().all() for x in logits)


def test_published_names(small):
    _, published = small
    for name in ('latent', 'cnn_stem.0.weight',
                 'cnn_body_stage2.0.downsample.0.weight',
                 'cnn_body_stage1.1.bn2.running_var', 'dwc1_x2z.bias',
                 'cross_att2_z2x.cross_attn.attention.v_proj.weight',
                 'cross_att1_x2z.cross_attn.attention.relative_position_bias',
                 'self_att3.8.self_attn.norm.weight', 'classifier_cnn.weight',
                 'self_att4.2.mlp.layernorm.bias', 'isc4.1.running_mean',
                 'classifier_merge.1.weight', 'token_expander.2.1.weight'):
        assert name in published


@pytest.mark.skipif(
    not hasattr(torch.serialization, 'safe_globals'),
    reason='this torch cannot allow the command line')
def test_file_with_its_command_line(small, tmp_path):
    net, published = small
    path = tmp_path / 'weights.pth'
    ema = {f'module.{k}': v * 0 for k, v in published.items()}
    torch.save(
        dict(model=published, model_ema=ema, args=argparse.Namespace(lr=1e-3)),
        path)
    assert torch.equal(load_official(path).trunk.latents, net.trunk.latents)
    averaged = load_official(path, weights='model_ema')
    assert averaged.trunk.latents.abs().max() == 0


def test_refuses_missing_unexpected_and_misshapen(small):
    _, published = small
    name = 'self_att3.4.mlp.fc1.weight'
    with pytest.raises(ValueError, match=rf"missing: '{name}'"):
        load_official({k: v for k, v in published.items() if k != name})
    with pytest.raises(ValueError, match="unexpected: 'gate.weight'"):
        load_official({**published, 'gate.weight': torch.rand(3)})
    with pytest.raises(ValueError, match=rf'{name} is \(3, 3\) instead of'):
        load_official({**published, name: torch.rand(3, 3)})
    damaged = published[name].clone()
    damaged[0, 0] = float('nan')
    with pytest.raises(ValueError, match=f'{name}.* holds NaN'):
        load_official({**published, name: damaged})


@pytest.mark.parametrize('content, message', [
    ({}, "missing 'latent'"),
    ({
        'fc.weight': torch.rand(2, 2)
    }, "found 'fc.weight'"),
    ({
        'model': {
            'fc.weight': 1
        }
    }, "got 'fc.weight': int"),
])
def test_refuses_other_content(content, message):
    with pytest.raises(ValueError, match=message):
        load_official(content)


def test_refuses_unknown_choice_of_weights(small):
    _, published = small
    with pytest.raises(ValueError, match="'best'"):
        load_official({'model': published}, weights='best')
    with pytest.raises(ValueError, match="no weights under 'model_ema'"):
        load_official({'model': published}, weights='model_ema')


def test_refuses_unreadable_files(tmp_path):
    with pytest.raises(FileNotFoundError, match='nothing.pth'):
        load_official(tmp_path / 'nothing.pth')
    torch.save({'model': {'w': torch.rand(1000)}}, tmp_path / 'whole.pth')
    (tmp_path / 'cut.pth').write_bytes(
        (tmp_path / 'whole.pth').read_bytes()[:900])
    (tmp_path / 'empty.pth').touch()
    (tmp_path / 'text.pth').write_text('<html>not found</html>')
    for name in ('cut.pth', 'empty.pth', 'text.pth'):
        with pytest.raises(ValueError, match=name):
            load_official(tmp_path / name)


class _Code:

    def __reduce__(self):
        return exec, ('raise SystemExit("code ran")', )


def test_code_in_a_file_never_runs(tmp_path):
    torch.save({'model': _Code()}, tmp_path / 'code.pth')
    with pytest.raises(ValueError, match='cannot|holds code'):
        load_official(tmp_path / 'code.pth')
