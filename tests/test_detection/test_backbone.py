# Copyright (c) mmdynperceiver contributors. All rights reserved.
import pytest
import torch
from mmcv.ops import RoIAlign
from mmdet.registry import MODELS
from tiny_detector import TRUNK

from mmdynperceiver.core import ConvTrunk, DynPerceiver, Trunk
from mmdynperceiver.core.segments import Half
from mmdynperceiver.detection import DynPerceiverDetBackbone

FAMILIES = [('regnety-400mf', {}, (1, 2, 3, 4)),
            ('resnet18', dict(width=0.25), (1, 2, 3, 4)),
            ('mobilenetv3-large', dict(width=0.5), (0, 1, 2, 4))]
FEW = dict(num_latents=16, depth_factor=(0, 0, 1 / 9, 1 / 3))


def build(**kwargs):
    return MODELS.build(
        dict(type='DynPerceiverDetBackbone', **{
            **TRUNK,
            **kwargs
        }))


@pytest.mark.parametrize('arch, options, maps', FAMILIES)
@pytest.mark.parametrize('size', [(64, 96), (65, 97), (35, 33)])
def test_levels_of_any_size(arch, options, maps, size):
    backbone = DynPerceiverDetBackbone(arch, **FEW, **options).eval()
    assert backbone.level_maps == maps
    assert backbone.out_strides == (4, 8, 16, 32)
    with torch.no_grad():
        levels = backbone(torch.rand(1, 3, *size))
    for level, channels, stride in zip(levels, backbone.out_channels,
                                       backbone.out_strides):
        expected = [-(-side // stride) for side in size]  # rounded up
        assert level.shape == (1, channels, *expected)


def test_levels_are_the_maps_behind_the_feature_halves():
    backbone = build().eval()
    images = torch.rand(2, 3, 64, 64)
    net, maps = backbone.net, []
    state = net.initial_state(images)
    with torch.no_grad():
        for half in [h for k in range(4) for h in net.halves(k)]:
            state = net.run_half(half, state)
            maps.append((half, state.x))
        found = backbone(images)
    last = dict(maps)
    for stage, level in enumerate(found[:3]):
        torch.testing.assert_close(level, last[Half('extract', stage)])
    torch.testing.assert_close(found[3], last[Half('last_z2x', 3)])


@pytest.mark.parametrize('training', [False, True])
def test_rois_are_cut_from_the_right_places(training):
    """mmcv's operator takes every map for one stored channels first."""
    backbone = DynPerceiverDetBackbone('resnet18', width=0.25, num_latents=16)
    images = torch.randn(2, 3, 128, 128)
    with torch.no_grad():
        maps = backbone.train(training)(images)
    roi = torch.tensor([[1, 0, 0, 128., 128.]])
    for stride, x in zip(backbone.out_strides, maps):
        side = 128 // stride
        out = RoIAlign(
            side, 1 / stride, sampling_ratio=1, aligned=True)(x, roi)
        torch.testing.assert_close(out[0], x[1])


def test_macs_agree_with_the_published_count():
    backbone = DynPerceiverDetBackbone('regnety-1600mf', num_latents=128)
    macs, = backbone.macs_per_exit((3, 800, 1280))
    assert macs == pytest.approx(37.4e9, rel=0.005)
    static = DynPerceiverDetBackbone('regnety-1600mf', branches='feature')
    assert static.macs_per_exit((3, 800, 1280))[0] == pytest.approx(
        33.4e9, rel=0.02)


@pytest.mark.parametrize(
    'options, unused',
    [(dict(last_z2x=False), {Half('classify', 3)}),
     (dict(out_indices=(0, 1, 2)),
      {Half('classify', 3),
       Half('extract', 3),
       Half('last_z2x', 3)}),
     (dict(z2x=False, last_z2x=False), {Half('classify', i)
                                        for i in range(4)})])
def test_what_nothing_reads_is_not_run_nor_trained(options, unused):
    backbone = build(**options).train()
    ran = []
    run_half = backbone.net.run_half
    backbone.net.run_half = lambda half, state: (ran.append(half),
                                                 run_half(half, state))[1]
    levels = backbone(torch.rand(2, 3, 64, 64))
    assert not unused & set(ran)
    sum(level.sum() for level in levels).backward()
    without = [
        name for name, p in backbone.named_parameters()
        if p.requires_grad and p.grad is None
    ]
    # Without z2x nothing reads the latents, nor what mixes them.
    if options.get('z2x', True):
        assert not without


def test_every_parameter_gets_a_gradient():
    backbone = build().train()
    sum(level.sum() for level in backbone(torch.rand(2, 3, 64, 64))).backward()
    assert all(p.grad is not None for p in backbone.parameters())


def test_static_network_is_the_feature_branch():
    static = DynPerceiverDetBackbone(
        'resnet18', width=0.25, branches='feature').eval()
    assert isinstance(static.net, ConvTrunk)
    images = torch.rand(1, 3, 64, 64)
    x = static.net.stem(images)
    with torch.no_grad():
        for level, stage in zip(static(images), static.net.stages):
            x = stage['conv'](x)
            torch.testing.assert_close(level, x)


@pytest.mark.parametrize('frozen', [0, 2, 4])
def test_frozen_stages_of_both_branches(frozen):
    backbone = build(frozen_stages=frozen).train()
    assert not backbone.net.latents.requires_grad
    for module in (backbone.net.stem, *backbone.net.stages[:frozen]):
        assert not module.training
        assert not any(p.requires_grad for p in module.parameters())
    for stage in backbone.net.stages[frozen:]:
        assert stage.training
        assert all(p.requires_grad for p in stage.parameters())


def test_norm_eval_keeps_the_statistics():
    backbone = build(norm_eval=True).train()
    before = backbone.net.stem[1].running_mean.clone()
    backbone(torch.rand(2, 3, 64, 64))
    torch.testing.assert_close(backbone.net.stem[1].running_mean, before)


def test_checkpointing_gives_the_same_gradients():
    plain = build(norm_eval=True).train()
    checkpointed = build(norm_eval=True, with_cp=True).train()
    checkpointed.load_state_dict(plain.state_dict())
    images = torch.rand(2, 3, 64, 64)
    for backbone in (plain, checkpointed):
        sum(level.square().sum() for level in backbone(images)).backward()
    for (name, p), q in zip(plain.named_parameters(),
                            checkpointed.parameters()):
        torch.testing.assert_close(p.grad, q.grad, msg=name)


def test_weights_of_a_classifier_load_by_prefix(tmp_path):
    source = DynPerceiver(num_classes=3, **TRUNK)
    weights = {
        f'backbone.net.{name}': value
        for name, value in source.trunk.state_dict().items()
    }
    path = str(tmp_path / 'classifier.pth')
    torch.save(dict(state_dict=weights), path)
    backbone = build(
        init_cfg=dict(type='Pretrained', checkpoint=path, prefix='backbone.'))
    backbone.init_weights()
    own = backbone.net.state_dict()
    assert own.keys() == source.trunk.state_dict().keys()
    for name, value in source.trunk.state_dict().items():
        assert torch.equal(own[name], value), name


@pytest.mark.parametrize('options, message', [
    (dict(branches='one'), "both, feature, got 'one'"),
    (dict(out_indices=()), 'got ()'),
    (dict(out_indices=(1, 0)), r'got \(1, 0\)'),
    (dict(out_indices=(0, 4)), r'got \(0, 4\)'),
    (dict(frozen_stages=5), 'got 5'),
])
def test_refuses_options(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_refuses_images_below_the_largest_stride():
    backbone = build()
    assert isinstance(backbone.net, Trunk)
    with pytest.raises(ValueError, match='at least 32 .* got 31x64'):
        backbone(torch.rand(1, 3, 31, 64))
