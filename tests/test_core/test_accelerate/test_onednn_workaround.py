# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Convolutions of few channels, and the gradient that is not sound."""
import copy
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

from mmdynperceiver.core import (DynPerceiver, build_feature_branch,
                                 prepare_for_inference)
from mmdynperceiver.core.accelerate.onednn_workaround import (
    SubsampledConv2d, avoid_onednn_overrun)
from mmdynperceiver.core.feature_branch import feature_branch_from_stages

# In stage 1, 8 channels of 56x56 pixels go through a strided 1x1
# convolution: as PyTorch has it, that ends the process.
TRAINING = """
import torch
from mmdynperceiver.core import DynPerceiver
torch.manual_seed(0)
torch.set_num_threads(1)
net = DynPerceiver('resnet18', width=0.125, num_latents=8, num_classes=3,
                   depth_factor=(0, 0, 0, 0))
for _ in range(20):
    sum(t.sum() for t in net(torch.randn(2, 3, 224, 224))).backward()
print('done')
"""


def _strided(in_channels, **kwargs):
    kwargs = {'stride': 2, **kwargs}
    return nn.Conv2d(in_channels, 5, kwargs.pop('kernel_size', 1), **kwargs)


def test_training_of_a_narrow_network_ends_well():
    run = subprocess.run([sys.executable, '-c', TRAINING],
                         capture_output=True,
                         text=True,
                         timeout=300)
    assert (run.returncode, run.stdout) == (0, 'done\n'), run.stderr


class _Unsound(TorchDispatchMode):
    """Notes the backward passes that the fault may be in."""

    def __init__(self):
        super().__init__()
        self.found = []
        self.passes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.convolution_backward.default:
            self.passes += 1
            _, x, weight, _, stride = args[:5]
            if weight.shape[1] < 16 and tuple(weight.shape[2:]) == (1, 1) \
                    and max(stride) > 1:
                self.found.append((tuple(x.shape), tuple(weight.shape)))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('arch', [
    'resnet18',
    dict(block='bottleneck', depths=(1, 1, 1, 1), stem_stride=1),
    'mobilenetv3-large',
])
def test_no_unsound_gradient_is_asked_for(arch):
    net = DynPerceiver(arch, width=0.125, num_latents=8, num_classes=3)
    with _Unsound() as watch:
        sum(t.sum() for t in net(torch.randn(2, 3, 64, 64))).backward()
    assert watch.passes > 10
    assert not watch.found


@pytest.mark.parametrize('conv', [
    _strided(8),
    _strided(15, stride=(1, 2), bias=False),
    _strided(1, stride=3),
])
@pytest.mark.parametrize('layout',
                         [torch.contiguous_format, torch.channels_last])
def test_same_results_and_gradients(conv, layout):
    conv = conv.double()
    x = torch.randn(2, conv.in_channels, 9, 8, dtype=torch.double)
    x = x.contiguous(memory_format=layout).requires_grad_()
    sampled = avoid_onednn_overrun(conv)
    assert isinstance(sampled, SubsampledConv2d)
    assert sampled.weight is conv.weight
    assert list(sampled.state_dict()) == list(conv.state_dict())
    want = conv(x)
    torch.testing.assert_close(sampled(x), want)
    with torch.no_grad():
        torch.testing.assert_close(sampled(x), want)
    leaves = (x, *conv.parameters())
    weights = torch.randn_like(want)
    for one, other in zip(
            torch.autograd.grad((sampled(x) * weights).sum(), leaves),
            torch.autograd.grad((want * weights).sum(), leaves),
            strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize('conv', [
    _strided(16),
    _strided(8, stride=1),
    _strided(8, kernel_size=3),
    _strided(5, groups=5),
    _strided(8, padding=1),
])
def test_other_convolutions_stay(conv):
    assert avoid_onednn_overrun(conv) is conv


def test_exchanges_wherever_they_are():
    inner = _strided(8)
    inner.eval()
    part = nn.Sequential(nn.ModuleDict(dict(a=inner)), _strided(16))
    assert avoid_onednn_overrun(part) is part
    exchanged = part[0]['a']
    assert isinstance(exchanged, SubsampledConv2d) and not exchanged.training
    assert type(part[1]) is nn.Conv2d
    # Again, as of a branch that serves two networks.
    avoid_onednn_overrun(part)
    assert part[0]['a'] is exchanged


def test_every_kind_of_branch():
    stages = [_strided(c) for c in (4, 5, 5, 5)]
    branch = build_feature_branch(
        feature_branch_from_stages(nn.Conv2d(3, 4, 3, padding=1), stages))
    assert all(isinstance(stage, SubsampledConv2d) for stage in branch.stages)
    narrow, wide = (
        build_feature_branch('resnet18', width) for width in (0.125, 0.25))
    assert isinstance(narrow.stages[1][0].downsample[0], SubsampledConv2d)
    assert type(wide.stages[1][0].downsample[0]) is nn.Conv2d


def test_draws_no_random_numbers():
    conv = _strided(8)
    torch.manual_seed(0)
    want = torch.rand(1)
    torch.manual_seed(0)
    avoid_onednn_overrun(copy.deepcopy(conv))
    assert torch.equal(torch.rand(1), want)


def test_prepared_models_fold_them():
    net = DynPerceiver('resnet18', width=0.125, num_latents=8).eval()
    prepared = prepare_for_inference(net)
    for stage in prepared.trunk.stages:
        assert not any(isinstance(m, _BatchNorm) for m in stage.modules())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for one, other in zip(prepared(images), net(images), strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
