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


class Shapes(dict):
    """Shapes of weights by the names their authors use."""

    def weights(self, name, *shape, bias=True):
        self[f'{name}.weight'] = shape
        if bias:
            self[f'{name}.bias'] = shape[:1]

    def batch_norm(self, name, width):
        self.weights(name, width)
        self.update({
            f'{name}.running_mean': (width, ),
            f'{name}.running_var': (width, ),
            f'{name}.num_batches_tracked': ()
        })

    def conv_block(self, name, before, after, stride):
        self.weights(f'{name}.conv1', after, before, 3, 3, bias=False)
        self.batch_norm(f'{name}.bn1', after)
        self.weights(f'{name}.conv2', after, after, 3, 3, bias=False)
        self.batch_norm(f'{name}.bn2', after)
        if stride > 1:
            self.weights(
                f'{name}.downsample.0', after, before, 1, 1, bias=False)
            self.batch_norm(f'{name}.downsample.1', after)

    def attention(self, name, width, kv_width, inner):
        for part, size in dict(q=width, k=kv_width, v=kv_width).items():
            self.weights(f'{name}.{part}_proj', inner, size, bias=False)
        self.weights(f'{name}.o_proj', width, inner)

    def mlp(self, name, width, hidden):
        self.weights(f'{name}.mlp.layernorm', width)
        self.weights(f'{name}.mlp.fc1', hidden, width)
        self.weights(f'{name}.mlp.fc2', width, hidden)

    def cross(self, name, width, kv_width, inner):
        self.weights(f'{name}.cross_attn.q_norm', width)
        self.weights(f'{name}.cross_attn.kv_norm', kv_width)
        self.attention(f'{name}.cross_attn.attention', width, kv_width, inner)
        self.mlp(name, width, width)

    def block(self, name, width):
        self.weights(f'{name}.self_attn.norm', width)
        self.attention(f'{name}.self_attn.attention', width, width, width)
        self.mlp(name, width, 4 * width)


def published_shapes():
    """Names and shapes of ``SMALL`` as its authors publish it.

    Written out from their naming scheme, without the code under test.
    """
    shapes = Shapes(latent=(16, 16))
    channels, latents = (16, 16, 32, 64, 128), (16, 8, 4, 2)
    shapes.weights('cnn_stem.0', 16, 3, 7, 7, bias=False)
    shapes.batch_norm('cnn_stem.1', 16)
    for i, depth in enumerate((3, 3, 9, 3)):
        before, after = channels[i:i + 2]
        stage = f'cnn_body_stage{i + 1}'
        shapes.conv_block(f'{stage}.0', before, after, 2 if i else 1)
        shapes.conv_block(f'{stage}.1', after, after, 1)
        shapes.weights(f'dwc{i + 1}_x2z', before, 1, 7, 7)
        shapes.cross(f'cross_att{i + 1}_x2z', before, before, before)
        shapes[f'cross_att{i + 1}_x2z.cross_attn.attention.'
               'relative_position_bias'] = (1, 49, before)
        for j in range(depth):
            shapes.block(f'self_att{i + 1}.{j}', before)
        if i < 3:
            shapes.weights(f'token_mixer.{i}.0', latents[i])
            shapes.weights(f'token_mixer.{i}.1', latents[i + 1], latents[i])
            shapes.weights(f'token_expander.{i}.0', before)
            shapes.weights(f'token_expander.{i}.1', after, before)
            shapes.cross(f'cross_att{i + 2}_z2x', after, after, after // 8)
    shapes.cross('last_cross_att_z2x', 128, 64, 16)
    shapes.weights('early_classifier3', 7, 32)
    shapes.weights('classifier_att', 7, 64 + 64)
    shapes.weights('classifier_cnn', 7, 128)
    shapes.batch_norm('classifier_merge.0', 128 + 64 + 64)
    shapes.weights('classifier_merge.1', 7, 128 + 64 + 64)
    for name in ('isc3', 'isc4'):
        shapes.weights(f'{name}.0', 64, 7)
        shapes.batch_norm(f'{name}.1', 64)
    return shapes


def test_a_network_under_its_published_names():
    shapes = published_shapes()
    published = {k: reference.rule(k, shape) for k, shape in shapes.items()}
    net = load_official(published)
    assert {
        k: tuple(v.shape)
        for k, v in publish(net.state_dict(), 'resnet').items()
    } == shapes
    attention = 'cross_att1_x2z.cross_attn.attention'
    for own, sources in {
            'trunk.latents': ['latent'],
            'trunk.stages.0.x2z.attn.kv.weight':
        [f'{attention}.k_proj.weight', f'{attention}.v_proj.weight'],
            'trunk.stages.2.blocks.8.qkv.weight': [
                f'self_att3.8.self_attn.attention.{part}_proj.weight'
                for part in 'qkv'
            ],
            'trunk.stages.0.z2x.attn.proj.bias':
        ['cross_att2_z2x.cross_attn.attention.o_proj.bias'],
            'trunk.stages.1.conv.1.bn2.0.bias': ['cnn_body_stage2.1.bn2.bias'],
            'trunk.stages.2.token_mixer.expand.1.weight':
        ['token_expander.2.1.weight'],
            'exits.fkt.1.0.weight': ['isc4.0.weight'],
            'exits.classifiers.2.1.weight': ['classifier_cnn.weight'],
            'exits.classifiers.3.0.running_var':
        ['classifier_merge.0.running_var']
    }.items():
        want = torch.cat([published[source] for source in sources])
        assert torch.equal(net.state_dict()[own], want), own


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
