# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Any chain of modules as the feature branch."""
import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision import models

from mmdynperceiver.core import (ConvTrunk, DynPerceiver, Trunk, select_exits,
                                 split_backbone)
from mmdynperceiver.core.feature_branch import feature_branch_from_stages

IMAGES = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def conv(inputs, outputs, stride=2, kernel=3):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Toy(nn.Module):
    """A small backbone whose forward pass is a chain."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 2, 1)
        self.norm1 = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.layer1 = conv(8, 8, stride=1)
        self.layer2 = conv(8, 16)
        self.layer3 = conv(16, 32)
        self.layer4 = conv(32, 40)

    def stem(self, x):
        return self.pool(self.relu(self.norm1(self.conv1(x))))

    def forward(self, x):
        x = self.layer1(self.stem(x))
        return self.layer4(self.layer3(self.layer2(x)))


def build(forward=Toy.forward, **modules):
    toy = type('Toy', (Toy, ), dict(forward=forward))()
    for name, module in modules.items():
        setattr(toy, name, module)
    return toy


def names(branch):
    return [list(part._modules) for part in (branch.stem, *branch.stages)]


def run(branch, x):
    for part in (branch.stem, *branch.stages):
        x = part(x)
    return x


def test_a_stem_ends_with_its_pooling():
    branch = split_backbone(Toy())
    assert names(branch) == [['conv1', 'norm1', 'relu', 'pool'], ['layer1'],
                             ['layer2'], ['layer3'], ['layer4']]
    assert branch.channels == (8, 8, 16, 32, 40)
    assert branch.strides == (4, 4, 8, 16, 32)


def test_a_pooling_at_the_end_is_no_stage():
    layers = [conv(3, 8), conv(8, 8), conv(8, 8), conv(8, 16), conv(16, 16)]
    branch = split_backbone(nn.Sequential(*layers, nn.MaxPool2d(2)))
    assert names(branch) == [['0'], ['1'], ['2'], ['3'], ['4', '5']]
    assert branch.strides == (2, 4, 8, 16, 64)


@pytest.mark.parametrize('build_net, channels, strides', [
    (lambda: models.efficientnet_b0().features, (16, 24, 40, 112, 1280),
     (2, 4, 8, 16, 32)),
    (lambda: models.convnext_tiny().features, (96, 96, 192, 384, 768),
     (4, 4, 8, 16, 32)),
    (lambda: models.mobilenet_v3_small().features, (16, 16, 24, 48, 576),
     (2, 4, 8, 16, 32)),
    (lambda: models.swin_t().features, (96, 96, 192, 384, 768),
     (4, 4, 8, 16, 32)),
])
def test_parts_are_the_backbone(build_net, channels, strides):
    net = build_net()
    branch = split_backbone(net)
    assert branch.channels == channels
    assert branch.strides == strides
    inside = sum(p.numel() for part in (branch.stem, *branch.stages)
                 for p in part.parameters())
    assert inside == sum(p.numel() for p in net.parameters())
    net.eval()
    with torch.no_grad():
        expected = net(IMAGES)
        if expected.shape[1] != channels[-1]:  # channels last, as Swin's
            expected = expected.permute(0, 3, 1, 2)
        assert torch.equal(run(branch, IMAGES), expected)


def test_strides_do_not_depend_on_padding():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 8, 3), conv(8, 8),
        nn.Conv2d(8, 16, 3, 2), conv(16, 16), conv(16, 16))
    branch = split_backbone(net)
    assert branch.strides == (2, 4, 8, 16, 32)


def test_cuts_where_it_is_told():
    layers = [conv(3, 8), conv(8, 8), conv(8, 16), conv(16, 16), conv(16, 24)]
    net = nn.Sequential(nn.Sequential(*layers[:3]), *layers[3:])
    assert split_backbone(net).strides == (2, 4, 8, 16, 32)
    cuts = ('0.0.0', '0.0.2', '0.1', '0.2')
    branch = split_backbone(copy.deepcopy(net), cut_after=cuts)
    assert names(branch) == [['0_0_0'], ['0_0_1', '0_0_2'], ['0_1'], ['0_2'],
                             ['1', '2']]
    assert branch.strides == (2, 2, 4, 8, 32)


def test_a_module_may_run_twice():

    def forward(self, x):
        x = self.layer2(self.layer1(self.relu(self.stem(x))))
        return self.layer4(self.layer3(x))

    branch = split_backbone(build(forward))
    assert names(branch)[0] == ['conv1', 'norm1', 'relu', 'pool', 'relu_4']


@pytest.mark.parametrize('trunk_type', [Trunk, ConvTrunk])
def test_trunks_take_a_branch(trunk_type):
    options = dict(num_latents=16) if trunk_type is Trunk else {}
    toy = Toy()
    trunk = trunk_type(split_backbone(toy), **options)
    assert trunk.channels == (8, 8, 16, 32, 40)
    assert trunk.stem.conv1 is toy.conv1
    for option in (dict(width=0.5), dict(drop_path_rate=0.1)):
        with pytest.raises(ValueError, match='leave them out'):
            trunk_type(split_backbone(Toy()), **option)


def test_trains_counts_and_leaves_early():
    torch.manual_seed(0)
    net = DynPerceiver(split_backbone(Toy()), num_classes=5, num_latents=16)
    sum(logits.square().mean() for logits in net(IMAGES)).backward()
    assert all(p.grad is not None for p in net.parameters())
    macs = net.macs_per_exit((3, 64, 64))
    assert 0 < macs[0] < macs[1] < macs[2] < macs[3]
    net.eval()
    with torch.no_grad():
        all_logits = net(IMAGES)
    confidence = [t.softmax(1).amax(1) for t in all_logits]
    # Halfway between two images, so that rounding does not decide.
    middle = len(IMAGES) // 2
    thresholds = [
        c.sort().values[middle - 1:middle + 1].mean().item()
        for c in confidence[:3]
    ]
    early = net.predict(IMAGES, thresholds)
    late = select_exits(all_logits, thresholds)
    assert len(early.exit_index.unique()) > 1
    assert torch.equal(early.exit_index, late.exit_index)
    torch.testing.assert_close(early.logits, late.logits)


def scaled(self, x):
    return self.layer4(self.layer3(self.layer2(self.layer1(self.stem(x)) * 2)))


def scaled_in_place(self, x):
    x = self.layer1(self.stem(x))
    x *= 2
    return self.layer4(self.layer3(self.layer2(x)))


def dropped_out(self, x):
    x = self.layer2(self.layer1(self.stem(x)))
    if self.training:
        x = F.dropout(x)
    return self.layer4(self.layer3(x))


def skipped_in_training(self, x):
    x = self.layer2(self.layer1(self.stem(x)))
    return self.layer4(x if self.training else self.layer3(x))


def pooled(self, x):
    return Toy.forward(self, x).mean((2, 3))


def first_of_two(self, x):
    x = self.layer1(self.stem(x))
    y = self.layer4(self.layer3(self.layer2(x)))
    return y, x


def turned(self, x):
    return Toy.forward(self, x).permute(0, 2, 3, 1).reshape(len(x), -1, 40)


@pytest.mark.parametrize('forward, message', [
    (scaled, "cut into stages: before 'layer2' it does more"),
    (scaled_in_place, "cut into stages: before 'layer2' it does more"),
    (dropped_out, "cut into stages: before 'layer3' it does more"),
    (skipped_in_training, 'in training it runs .*layer2, layer4, in eval'),
    (pooled, r'feature map \(B, C, h, w\), got the shape \(2, 40\)'),
    (turned, r'feature map \(B, C, h, w\), got the shape \(2, 384, 40\)'),
    (first_of_two, 'layer2.0, layer2.1, .* are not on the way'),
])
def test_refuses_what_is_no_chain_of_stages(forward, message):
    toy = build(forward, layer3=conv(16, 16), layer4=conv(16, 40)) \
        if forward is skipped_in_training else build(forward)
    with pytest.raises(ValueError, match=message):
        split_backbone(toy)


@pytest.mark.parametrize('options, message', [
    (dict(cut_after=('pool', 'layer1', 'layer2')), 'must name four modules'),
    (dict(cut_after='pool'), "must name four modules.*got 'pool'"),
    (dict(cut_after=('pool', 'layer1', 'layer2', 'layer9')),
     "no 'layer9'.*they are conv1, norm1, relu, pool, layer1"),
    (dict(cut_after=('pool', 'layer2', 'layer1', 'layer3')), "no 'layer1'"),
    (dict(cut_after=('layer1', 'layer2', 'layer3', 'layer4')),
     'leaves nothing for stage 3'),
    (dict(cut_after=('norm1', 'pool', 'layer1', 'layer3')),
     'stage 0 changes its input in place'),
])
def test_refuses_cuts(options, message):
    with pytest.raises(ValueError, match=message):
        split_backbone(Toy(), **options)


def test_refuses_another_number_of_stages():
    with pytest.raises(ValueError, match='3 stages.*stride 8: layer2, layer3'):
        split_backbone(build(layer3=conv(16, 32, stride=1)))


@pytest.mark.parametrize('place', ['', 'layer1'])
def test_refuses_hooks_that_would_be_lost(place):
    toy = Toy()
    toy.get_submodule(place).register_forward_hook(lambda m, i, out: 2 * out)
    with pytest.raises(ValueError, match='has hooks at .*layer1|itself'):
        split_backbone(toy)


def test_refuses_a_module_that_nothing_runs():
    with pytest.raises(ValueError, match='head are not on the way'):
        split_backbone(build(head=nn.Linear(40, 10)))


def test_refuses_a_backbone_that_does_not_run():
    with pytest.raises(ValueError, match='does not run on images of 512x768'):
        split_backbone(build(layer2=conv(9, 16)))


def test_refuses_a_backbone_that_freezes_itself():

    class Frozen(Toy):

        def train(self, mode=True):
            super().train(mode)
            self.layer1.eval()

    with pytest.raises(ValueError, match='Frozen keeps layer1, layer1.0'):
        split_backbone(Frozen())


@pytest.mark.parametrize('stem, stages, message', [
    (conv(3, 8), [conv(8, 8)] * 3, 'four stages, got 3'),
    (conv(3, 8), [conv(8, 8)] * 3 + [nn.Flatten()],
     r'stage 3 must return.*got \(2, 12288\)'),
    (conv(3, 8), [nn.ReLU(inplace=True)] + [conv(8, 8)] * 3,
     'stage 0 changes its input'),
    (conv(4, 8), [conv(8, 8)] * 4, 'Sequential does not run'),
])
def test_refuses_stages(stem, stages, message):
    with pytest.raises(ValueError, match=message):
        feature_branch_from_stages(stem, stages)


@pytest.mark.parametrize('options, message', [
    (dict(num_heads=(1, 2, 4)), r'four whole numbers.*\(1, 2, 4\)'),
    (dict(num_heads=(1, 2, 4, 5)), r'num_heads=\(1, 2, 4, 1\) would fit'),
])
def test_refuses_heads(options, message):
    with pytest.raises(ValueError, match=message):
        Trunk(split_backbone(Toy()), num_latents=16, **options)


def test_heads_of_other_widths():
    toy = build(layer3=conv(16, 30), layer4=conv(30, 40))
    with pytest.raises(ValueError, match=r'num_heads=\(1, 2, 4, 2\)'):
        Trunk(split_backbone(toy), num_latents=16)
    trunk = Trunk(split_backbone(toy), num_latents=16, num_heads=(1, 2, 4, 2))
    assert trunk.stages[3].blocks[0].num_heads == 2
    # Without blocks there are no heads.
    Trunk(split_backbone(toy), num_latents=16, depth_factor=(1, 1, 1, 0))
