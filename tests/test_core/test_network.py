# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Shapes, switches, initialisation and costs of the network's parts."""
import subprocess
import sys

import pytest
import torch
from torch.nn.functional import gelu
from torchvision.models import mobilenet_v3_large, regnet_y_800mf, resnet18

from mmdynperceiver.core import DynPerceiver, Exits, Trunk, macs_per_exit
from mmdynperceiver.core.attention import CrossAttention, SelfAttentionBlock
from mmdynperceiver.core.complexity import expected_cost
from mmdynperceiver.core.feature_branch import build_feature_branch

SMALL = dict(arch='resnet18', width=0.25, num_latents=16)


def test_training_drops_the_thresholds_of_a_checkpoint():
    calibrated = DynPerceiver(**SMALL, num_classes=3)
    calibrated.policy.set_thresholds((0.7, 0.8, 0.9))
    net, images = DynPerceiver(
        **SMALL, num_classes=3), torch.rand(2, 3, 32, 32)
    net.load_state_dict(calibrated.state_dict())
    net.macs_per_exit((3, 32, 32))  # in training mode, and trains nothing
    with torch.no_grad():
        net(images)
    net.eval()(images)
    assert net.policy.thresholds == (0.7, 0.8, 0.9)
    net.train()(images)
    assert net.policy.thresholds is None
    assert (net.state_dict()['policy._extra_state'] == -1).all()


def test_core_imports_no_host():
    code = ('import sys, mmdynperceiver.core; '
            'print([m for m in sys.modules if m.split(".")[0] in '
            '("mmengine", "mmcv", "mmpretrain", "mmaction", "mmdet")])')
    out = subprocess.run([sys.executable, '-c', code],
                         capture_output=True,
                         text=True,
                         check=True)
    assert out.stdout.strip() == '[]'


@pytest.mark.parametrize('arch, width, channels, strides', [
    ('regnety-400mf', 1, (32, 48, 104, 208, 440), (2, 4, 8, 16, 32)),
    ('regnety-800mf', 1, (32, 64, 144, 320, 784), (2, 4, 8, 16, 32)),
    ('regnety-1600mf', 1, (32, 48, 120, 336, 888), (2, 4, 8, 16, 32)),
    ('regnety-3200mf', 1, (32, 72, 216, 576, 1512), (2, 4, 8, 16, 32)),
    ('resnet50', 0.375, (24, 96, 192, 384, 768), (4, 4, 8, 16, 32)),
    ('resnet34', 1, (64, 64, 128, 256, 512), (4, 4, 8, 16, 32)),
    ('resnet18', 0.3, (19, 18, 36, 72, 153), (4, 4, 8, 16, 32)),
    ('mobilenetv3-large', 0.75, (24, 32, 64, 120, 720), (4, 8, 16, 32, 32)),
    ('mobilenetv3-large', 1.25, (32, 48, 104, 200, 1200), (4, 8, 16, 32, 32)),
])
def test_feature_branch_shapes(arch, width, channels, strides):
    branch = build_feature_branch(arch, width)
    assert branch.channels == channels
    assert branch.strides == strides
    x = torch.rand(1, 3, 64, 64)
    for stage, width, stride in zip((branch.stem, *branch.stages),
                                    channels,
                                    strides,
                                    strict=True):
        x = stage.eval()(x)
        assert x.shape == (1, width, 64 // stride, 64 // stride)


@pytest.mark.parametrize('arch, reference', [
    ('regnety-800mf', regnet_y_800mf),
    ('resnet18', resnet18),
    ('mobilenetv3-large', mobilenet_v3_large),
])
def test_feature_branch_is_torchvisions(arch, reference):
    """Same parameters and cost as the static network without its head."""
    branch = build_feature_branch(arch)
    parts = torch.nn.Sequential(branch.stem, *branch.stages).eval()
    whole = reference()
    head = whole.classifier if hasattr(whole, 'classifier') else whole.fc
    expected = sum(p.numel() for p in whole.parameters()) - sum(
        p.numel() for p in head.parameters())
    assert sum(p.numel() for p in parts.parameters()) == expected
    weights = [
        value for name, value in whole.eval().state_dict().items()
        if not name.startswith(('fc.', 'classifier.'))
    ]
    parts.load_state_dict(dict(zip(parts.state_dict(), weights, strict=True)))
    image = torch.rand(1, 3, 64, 64)
    features = parts(image).mean((2, 3))
    with torch.no_grad():
        torch.testing.assert_close(head(features), whole(image))


def test_other_resnets():
    named = build_feature_branch('resnet18', 0.25)
    blocks = dict(block='basic', depths=(2, 2, 2, 2))
    branch = build_feature_branch(blocks, 0.25)
    assert branch.channels == named.channels
    assert str(branch.stages) == str(named.stages)
    deep = build_feature_branch(dict(blocks, depths=(1, 2, 3, 4)), 0.25)
    assert [len(stage) for stage in deep.stages] == [1, 2, 3, 4]


def test_shapes_on_odd_sizes():
    net = DynPerceiver(**SMALL, num_classes=10).eval()
    for size in ((64, 64), (33, 65), (224, 100)):
        logits = net(torch.rand(2, 3, *size))
        assert [tuple(x.shape) for x in logits] == [(2, 10)] * 4


def test_latents_start_small_and_biases_at_zero():
    trunk = Trunk(**SMALL)
    assert trunk.latents.shape == (16, 16)
    assert 0.015 < trunk.latents.std() < 0.025
    assert trunk.stages[0].x2z.attn.position_bias.abs().max() == 0


def test_regnety_classifier_starts_small():
    exits = DynPerceiver('regnety-400mf').exits
    assert 0.009 < exits.classifiers[2][-1].weight.std() < 0.011


def test_residual_branches_start_at_zero():
    for arch, name in (('resnet18', 'bn2'), ('resnet50', 'bn3')):
        for stage in build_feature_branch(arch, 0.25).stages:
            for block in stage:
                assert getattr(block, name)[0].weight.abs().max() == 0


def test_stochastic_depth_grows_linearly_and_can_be_set():

    def rates(**kwargs):
        branch = build_feature_branch('resnet18', 0.25, **kwargs)
        return [block.bn2[1].p for stage in branch.stages for block in stage]

    assert rates() == pytest.approx([0.2 * i / 7 for i in range(8)])
    assert set(rates(drop_path_rate=0.)) == {0}


def test_every_parameter_gets_a_gradient():
    net = DynPerceiver(**SMALL, num_classes=4)
    # Residual branches start at zero, which would hide what is before them.
    for name, p in net.named_parameters():
        if name.endswith('bn2.0.weight'):
            torch.nn.init.ones_(p)
    sum(x.square().sum() for x in net(torch.rand(4, 3, 64, 64))).backward()
    without = [n for n, p in net.named_parameters() if p.grad is None]
    assert without == []
    zero = [n for n, p in net.named_parameters() if p.grad.abs().max() == 0]
    assert zero == []


@pytest.mark.parametrize('switch, absent', [
    ('x2z', ('stages.1.x2z', 'stages.3.x2z')),
    ('z2x', ('stages.0.z2x', 'stages.2.z2x')),
    ('dw_conv', ('stages.0.x2z.dw_conv', 'stages.3.x2z.dw_conv')),
    ('last_z2x', ('last_z2x', )),
    ('token_mixer', ('stages.0.token_mixer', 'stages.2.token_mixer')),
])
def test_switches(switch, absent):
    full = dict(Trunk(**SMALL).named_modules())
    trunk = Trunk(**SMALL, **{switch: False}).eval()
    less = dict(trunk.named_modules())
    for name in absent:
        assert name in full and name not in less
    # The first x2z stays; nothing else than what the switch names goes.
    assert 'stages.0.x2z' in less
    kept = [
        name for name in full if not any(part in name for part in (switch, ))
    ]
    assert [name for name in kept if name not in less] == []
    assert len(trunk(torch.rand(1, 3, 64, 64))) == 4


def test_without_token_mixers_the_latents_keep_their_shape():
    trunk = Trunk(**SMALL, token_mixer=False).eval()
    assert trunk.exit_channels == ((16, ), (16, ), (128, ), (128, 16))
    state = trunk.initial_state(torch.rand(2, 3, 64, 64))
    for k in range(4):
        state, _ = trunk.segment(k, state)
        assert state.z.shape == (2, 16, 16)


def test_latents_halve_and_widen():
    trunk = Trunk(**SMALL).eval()
    state = trunk.initial_state(torch.rand(2, 3, 64, 64))
    shapes = []
    for k in range(4):
        state, _ = trunk.segment(k, state)
        shapes.append(tuple(state.z.shape[1:]))
    assert shapes == [(4, 32), (2, 64), (2, 64), (2, 64)]


def test_fused_projections_equal_separate_ones():
    torch.manual_seed(0)
    attn = CrossAttention(8, 12, 6, num_positions=5)
    torch.nn.init.normal_(attn.position_bias)
    queries, kv = torch.rand(2, 3, 8), torch.rand(2, 5, 12)
    q = attn.norm_q(queries) @ attn.q.weight.T
    tokens = attn.norm_kv(kv)
    k = tokens @ attn.kv.weight[:6].T + attn.position_bias
    v = tokens @ attn.kv.weight[6:].T
    weights = (q @ k.transpose(1, 2) / 6**0.5).softmax(-1)
    torch.testing.assert_close(
        attn(queries, kv), queries + attn.proj(weights @ v))


def test_self_attention_heads_by_hand():
    torch.manual_seed(0)
    block = SelfAttentionBlock(8, 2).eval()
    z = torch.rand(3, 5, 8)
    q, k, v = block.qkv(block.norm(z)).chunk(3, -1)
    heads = []
    for part in (slice(0, 4), slice(4, 8)):
        scores = q[..., part] @ k[..., part].transpose(1, 2) / 2
        heads.append(scores.softmax(-1) @ v[..., part])
    expected = z + block.proj(torch.cat(heads, -1))
    mlp = block.mlp
    expected = expected + mlp.fc2(gelu(mlp.fc1(mlp.norm(expected))))
    torch.testing.assert_close(block(z), expected)
    with pytest.raises(ValueError, match='10 channels for 4 heads'):
        SelfAttentionBlock(10, 4)


@pytest.mark.parametrize('kwargs, message', [
    (dict(arch='resnet101'), "got 'resnet101', expected one of regnety-400mf"),
    (dict(arch='resnet18', width=0), 'width.*0'),
    (dict(arch=dict(block='basic')), 'keys block, depths'),
    (dict(arch=dict(block='wide', depths=(1, 1, 1, 1))), "basic.*'wide'"),
    (dict(arch=dict(block='basic', depths=(1, 1, 0, 1))), r'\(1, 1, 0, 1\)'),
    (dict(arch='regnety-800mf', width=0.5), 'no width factor.*0.5'),
    (dict(arch='regnety-800mf', drop_path_rate=0.1), 'ResNet.*0.1'),
    (dict(arch='resnet18', drop_path_rate=1), 'drop_path_rate.*1'),
    (dict(arch='resnet18', num_latents=4), 'num_latents.*at least 8.*4'),
    (dict(arch='resnet18', depth_factor=(1, 1, 1)), r'four.*\(1, 1, 1\)'),
    (dict(arch='resnet18', mlp_ratio=0), 'mlp_ratio.*0'),
    (dict(arch='resnet18', num_classes=0), 'num_classes.*0'),
])
def test_wrong_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        DynPerceiver(**kwargs)


def test_exits_refuse_other_widths():
    with pytest.raises(ValueError, match='one width for each'):
        Exits(((3, ), (4, )), 10)


def test_knowledge_is_transferred_as_published():
    exits = Exits(((3, ), (4, ), (5, ), (5, 4)), 2).eval()
    features = [[torch.rand(1, w) for w in widths]
                for widths in ((3, ), (4, ), (5, ), (5, 4))]
    logits = exits(features)
    joined = torch.cat([features[1][0], exits.fkt[0](logits[0])], 1)
    torch.testing.assert_close(logits[1], exits.classifiers[1](joined))
    joined = torch.cat([*features[3], exits.fkt[1](logits[1])], 1)
    torch.testing.assert_close(logits[3], exits.classifiers[3](joined))
    assert Exits(((3, ), (4, ), (5, ), (5, 4)), 2, fkt=False).fkt is None


def count_by_hand(net, image):
    """MACs of convolutions, linear layers and attention, seen by hooks."""
    counts = []

    def conv(layer, args, out):
        counts.append(out[0].numel() * layer.weight[0].numel())

    def linear(layer, args, out):
        counts.append(out[0].numel() * layer.in_features)

    def cross(layer, args, out):
        queries, kv = args
        counts.append(2 * queries.shape[1] * kv.shape[1] *
                      layer.q.out_features)

    def self_attention(layer, args, out):
        counts.append(2 * args[0].shape[1]**2 * args[0].shape[2])

    kinds = ((torch.nn.Conv2d, conv), (torch.nn.Linear, linear),
             (CrossAttention, cross), (SelfAttentionBlock, self_attention))
    for module in net.modules():
        for kind, hook in kinds:
            if isinstance(module, kind):
                module.register_forward_hook(hook)
    net(image)
    return sum(counts)


def test_macs_against_a_count_by_hand():
    net = DynPerceiver(**SMALL, num_classes=10).eval()
    macs = net.macs_per_exit((3, 64, 64))
    assert list(macs) == sorted(macs) and len(set(macs)) == 4
    assert macs_per_exit(net.trunk, net.exits, (3, 64, 64)) == macs
    assert net.macs_per_exit((3, 96, 64))[-1] > macs[-1]
    with pytest.raises(ValueError, match=r'\(64, 64\)'):
        net.macs_per_exit((64, 64))
    assert count_by_hand(net, torch.rand(1, 3, 64, 64)) == macs[-1]


def test_detection_macs():
    """The spec's count of the backbone at 800x1280: 37.4 G."""
    net = DynPerceiver('regnety-1600mf', num_latents=128)
    assert net.macs_per_exit((3, 800, 1280))[-1] == pytest.approx(
        37.4e9, rel=0.015)


def test_expected_cost():
    assert expected_cost((0.5, 0.25, 0, 0.25), (4, 8, 9, 12)) == 7


def test_the_old_name_of_one_exit():
    with pytest.warns(DeprecationWarning, match="now exits='last'"):
        trunk = Trunk(**SMALL, exits='none')
    assert trunk.exit_kinds == Trunk(**SMALL, exits='last').exit_kinds
