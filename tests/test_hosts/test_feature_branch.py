# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Backbones from the registries of the hosts as the feature branch."""
import copy

import pytest
import torch
from torch import nn

from mmdynperceiver.core import ConvTrunk, Trunk, split_backbone
from mmdynperceiver.hosts.feature_branch import build_arch
from mmdynperceiver.hosts.trunk_backbone import TrunkBackbone

pytest.importorskip('mmpretrain')

from mmpretrain.registry import MODELS  # noqa: E402

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
CONVNEXT = dict(
    type='mmpretrain.ConvNeXt',
    arch=dict(depths=[1, 1, 2, 1], channels=[16, 32, 64, 72]),
    gap_before_final_norm=False)
RESNET = dict(
    type='mmpretrain.ResNet', depth=18, stem_channels=16, base_channels=16)
# type and options, channels, strides, first part of each stage
CASES = [
    (CONVNEXT, (16, 16, 32, 64, 72), (4, 4, 8, 16, 32),
     'stages_0 downsample_layers_1 downsample_layers_2 downsample_layers_3'),
    (RESNET, (16, 16, 32, 64, 128), (4, 4, 8, 16, 32),
     'layer1 layer2 layer3 layer4'),
    (dict(type='mmpretrain.ResNet', depth=50,
          base_channels=16), (64, 64, 128, 256, 512), (4, 4, 8, 16, 32),
     'layer1 layer2 layer3 layer4'),
    (dict(type='mmpretrain.EfficientNet', arch='b0'), (16, 24, 40, 112, 1280),
     (2, 4, 8, 16, 32), 'layers_2 layers_3 layers_4 layers_5'),
    (dict(type='mmpretrain.RegNet', arch='regnetx_400mf'),
     (32, 32, 64, 160, 384), (2, 4, 8, 16, 32), 'layer1 layer2 layer3 layer4'),
    (dict(type='mmpretrain.MobileNetV3', arch='small'), (16, 16, 24, 48, 576),
     (2, 4, 8, 16, 32), 'layer1 layer2 layer4 layer9'),
]
TIMM = [
    ('convnext_atto', (40, 40, 80, 160, 320), (4, 4, 8, 16, 32)),
    ('efficientnet_b0', (16, 24, 40, 112, 1280), (2, 4, 8, 16, 32)),
    ('resnet18', (64, 64, 128, 256, 512), (4, 4, 8, 16, 32)),
    ('regnety_002', (32, 24, 56, 152, 368), (2, 4, 8, 16, 32)),
]


def check_parts(config, channels, strides):
    """The parts, run one after the other, are the backbone, bit by bit."""
    backbone = MODELS.build(config)
    branch = split_backbone(backbone)
    assert branch.channels == channels
    assert branch.strides == strides
    backbone.eval()
    x = IMAGES
    with torch.no_grad():
        for part, stride in zip((branch.stem, *branch.stages), strides):
            x = part(x)
            assert x.shape[2:] == (64 // stride, 64 // stride)
        assert torch.equal(x, backbone(IMAGES)[-1])
    return branch


@pytest.mark.parametrize(
    'config, channels, strides, starts',
    CASES,
    ids=lambda value: value.get('type') if isinstance(value, dict) else '')
def test_parts_are_the_backbone(config, channels, strides, starts):
    branch = check_parts(config, channels, strides)
    assert [next(iter(stage._modules))
            for stage in branch.stages] == starts.split()


@pytest.mark.parametrize('name, channels, strides', TIMM)
def test_parts_are_timms(name, channels, strides):
    pytest.importorskip('timm')
    config = dict(type='mmpretrain.TIMMBackbone', model_name=name)
    check_parts(config, channels, strides)
    Trunk(build_arch(config), num_latents=16)


def test_timms_weights_stay(tmp_path):
    timm = pytest.importorskip('timm')
    path = str(tmp_path / 'timm.pth')
    source = timm.create_model('test_resnet')
    torch.save(source.state_dict(), path)
    backbone = model(
        dict(
            type='mmpretrain.TIMMBackbone',
            model_name='test_resnet',
            checkpoint_path=path))
    backbone.init_weights()
    x = IMAGES
    for part in (backbone.net.stem, *(s.conv for s in backbone.net.stages)):
        x = part.eval()(x)
    assert torch.equal(x, source.eval().forward_features(IMAGES))


def test_detection_backbones():
    pytest.importorskip('mmdet.models')
    config = dict(type='mmdet.CSPNeXt', deepen_factor=0.167, widen_factor=0.25)
    check_parts(config, (16, 32, 64, 128, 256), (2, 4, 8, 16, 32))
    frozen = dict(type='mmdet.ResNet', depth=18)
    with pytest.raises(ValueError, match='bn1.*in eval mode.*norm_eval=False'):
        build_arch(frozen)
    assert build_arch(dict(frozen, norm_eval=False)).strides[0] == 4


@pytest.mark.parametrize('arch', [
    'resnet18',
    dict(block='basic', depths=(1, 1, 1, 1)),
])
def test_leaves_other_archs_to_the_core(arch):
    assert build_arch(arch) is arch


def test_a_bare_type_is_the_registrys_own():
    config = dict(CONVNEXT, type='ConvNeXt')
    before = copy.deepcopy(config)
    assert build_arch(config, MODELS).channels == (16, 16, 32, 64, 72)
    assert config == before


def test_cuts_where_the_config_says():
    cuts = ['relu', 'layer1', 'layer2', 'layer3']
    branch = build_arch(dict(RESNET, cut_after=cuts))
    assert branch.strides == (2, 4, 8, 16, 32)
    with pytest.raises(ValueError, match="no 'norm1'.*they are conv1, bn1"):
        build_arch(dict(RESNET, cut_after=['norm1', *cuts[1:]]))


@pytest.mark.parametrize('options, message', [
    (dict(gap_before_final_norm=True), 'gap_before_final_norm=False'),
    (dict(frozen_stages=1), 'without frozen_stages'),
    (dict(out_indices=[0, 3]), 'norm0 are not on the way'),
    (dict(out_indices=[2]), 'downsample_layers.3.* are not on the way'),
])
def test_refuses_options_of_the_host(options, message):
    with pytest.raises(ValueError, match=message):
        build_arch(dict(CONVNEXT, **options))


def model(arch, **options):
    """A trunk within a model, as a runner initialises it."""
    return TrunkBackbone(
        arch, num_latents=16, depth_factor=(0, 0, 0, 0), **options)


def test_is_initialised_as_the_host_does():
    torch.manual_seed(0)
    backbone = model(CONVNEXT)
    layer = backbone.net.stages[2].conv.stages_2[0].pointwise_conv1
    before = backbone.net.stages[2].blocks
    assert layer.bias.abs().max() > 0
    latents = backbone.net.latents.clone()
    backbone.init_weights()
    assert layer.bias.abs().max() == 0
    assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert torch.equal(backbone.net.latents, latents)
    assert backbone.net.stages[2].blocks is before
    # What mmengine notes while it initialises does not stay behind.
    assert not any('_params_init_info' in vars(module)
                   for module in backbone.modules())


def test_a_copy_initialises_itself():
    backbone = model(CONVNEXT)
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    double = copy.deepcopy(backbone)
    double.init_weights()
    name = 'net.stages.2.conv.stages_2.0.pointwise_conv1.bias'
    assert not torch.equal(double.state_dict()[name], before[name])
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, before[key]), key


def save_backbone(config, path):
    torch.manual_seed(1)
    source = MODELS.build(config)
    for buffer in source.buffers():
        if buffer.is_floating_point():
            buffer.copy_(torch.rand_like(buffer))
    weights = {f'backbone.{k}': v for k, v in source.state_dict().items()}
    torch.save(dict(state_dict=weights), path)
    return source


@pytest.mark.parametrize('config', [CONVNEXT, RESNET], ids=['ln', 'bn'])
def test_loads_the_hosts_weights(config, tmp_path):
    path = str(tmp_path / 'c.pth')
    source = save_backbone(config, path)
    init = dict(type='Pretrained', checkpoint=path, prefix='backbone.')
    backbone = model(dict(config, init_cfg=init))
    # A runner exchanges layers and moves the model before it initialises.
    backbone = nn.SyncBatchNorm.convert_sync_batchnorm(backbone)
    backbone = copy.deepcopy(backbone).double()
    backbone.init_weights()
    source.double()
    for module in (source, backbone):
        module.eval()
    x, expected = IMAGES.double(), source(IMAGES.double())[-1]
    for part in (backbone.net.stem, *(s.conv for s in backbone.net.stages)):
        x = part(x)
    assert torch.equal(x, expected)


def test_own_weights_prevail_over_the_hosts(tmp_path):
    save_backbone(RESNET, str(tmp_path / 'host.pth'))
    source = model(RESNET)
    torch.save(dict(state_dict=source.state_dict()), tmp_path / 'own.pth')
    host = dict(
        type='Pretrained',
        checkpoint=str(tmp_path / 'host.pth'),
        prefix='backbone.')
    own = dict(type='Pretrained', checkpoint=str(tmp_path / 'own.pth'))
    backbone = model(dict(RESNET, init_cfg=host), init_cfg=own)
    backbone.init_weights()
    for name, value in source.state_dict().items():
        assert torch.equal(backbone.state_dict()[name], value), name


def test_freezes_as_any_trunk():
    backbone = model(RESNET, frozen_stages=1, norm_eval=True).train()
    for part in (backbone.net.stem, backbone.net.stages[0].conv):
        assert not any(m.training for m in part.modules())
        assert not any(p.requires_grad for p in part.parameters())
    last = backbone.net.stages[3].conv
    assert all(p.requires_grad for p in last.parameters())
    assert last.layer4.training and not last.layer4[0].bn1.training


def test_drop_path_in_training_alone():
    config = dict(CONVNEXT, drop_path_rate=0.9)
    trunk = ConvTrunk(build_arch(config))
    images = IMAGES[:1].expand(16, -1, -1, -1)
    trunk.init_weights()
    for layer in trunk.modules():
        if hasattr(layer, 'gamma'):
            nn.init.ones_(layer.gamma)
    with torch.no_grad():
        same = trunk.eval()(images)[0][0]
        other = trunk.train()(images)[0][0]
    torch.testing.assert_close(same, same[:1].expand(16, -1))
    assert len({tuple(row.tolist()) for row in other}) > 1


def test_pretrained_branch_with_damaged_weights(tmp_path):
    path = str(tmp_path / 'x.pth')
    weights = MODELS.build(RESNET).state_dict()
    config = dict(RESNET, init_cfg=dict(type='Pretrained', checkpoint=path))
    torch.save(weights, path)
    backbone = TrunkBackbone(config, num_latents=16)
    backbone.init_weights()
    stem = next(iter(weights))
    first = next(iter(backbone.net.stem.state_dict().values()))
    assert torch.equal(first, weights[stem])
    weights[stem] = weights[stem] / 0
    torch.save(weights, path)
    with pytest.raises(ValueError, match=f'{stem.split(".")[-1]}.* holds NaN'):
        TrunkBackbone(config, num_latents=16).init_weights()
