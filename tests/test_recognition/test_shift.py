# Copyright (c) mmdynperceiver contributors. All rights reserved.
import pytest
import torch
from mmaction.models.backbones.resnet_tsm import TemporalShift
from torch import nn

from mmdynperceiver.core import FeatureBranch, Trunk
from mmdynperceiver.recognition import ShiftedConv2d, insert_shift

TINY = dict(num_latents=16, depth_factor=(0, 0, 0, 0))


@pytest.mark.parametrize('arch, width, number, first', [
    ('resnet18', 0.25, 8, 'stages.0.conv.0.conv1'),
    ('resnet50', 0.25, 16, 'stages.0.conv.0.conv1'),
    ('regnety-400mf', 1., 16, 'stages.0.conv.block1-0.f.a.0'),
    ('mobilenetv3-large', 0.5, 9, 'stages.0.conv.0.block.0.0'),
])
def test_placement(arch, width, number, first):
    """The first convolution of each residual branch, and nothing else."""
    plain, trunk = (Trunk(arch, width=width, **TINY) for _ in range(2))
    names = insert_shift(trunk, 8, 8)
    assert len(names) == number and names[0] == first
    found = [
        name for name, module in trunk.named_modules()
        if isinstance(module, ShiftedConv2d)
    ]
    assert found == names
    # Names stay, so that weights of images load.
    assert list(trunk.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(trunk.state_dict())


def test_blocks_without_a_skip_are_left_alone():
    trunk = Trunk('mobilenetv3-large', width=0.5, **TINY)
    shifted = set(insert_shift(trunk, 4))
    for name, block in trunk.stages.named_modules():
        if hasattr(block, 'use_res_connect'):
            here = f'stages.{name}.block.0.0' in shifted
            assert here == block.use_res_connect


def test_shift_by_hand():
    """One channel of four comes from the next frame, one from the last."""
    conv = nn.Conv2d(4, 4, 1, bias=False)
    conv.weight.data = torch.eye(4)[:, :, None, None]
    shifted = ShiftedConv2d(conv, num_segments=3, shift_div=4)
    # Value 10 * frame + channel, for two clips of three frames.
    x = (10. * torch.arange(6)[:, None] + torch.arange(4))[..., None, None]
    out = shifted(x)[..., 0, 0].int().tolist()
    assert out[:3] == [[10, 0, 2, 3], [20, 1, 12, 13], [0, 11, 22, 23]]
    assert out[3:] == [[40, 0, 32, 33], [50, 31, 42, 43], [0, 41, 52, 53]]


@pytest.mark.parametrize('memory',
                         [torch.contiguous_format, torch.channels_last])
def test_equals_the_hosts_module(memory):
    conv = nn.Conv2d(16, 8, 3, stride=2, padding=1, groups=4, bias=True)
    x = torch.randn(8, 16, 6, 6).contiguous(memory_format=memory)
    expected = TemporalShift(conv, 4, 8)(x.contiguous())
    torch.testing.assert_close(ShiftedConv2d(conv, 4, 8)(x), expected)


def test_time_matters_only_with_the_shift():
    clip = torch.randn(4, 3, 32, 32)
    for shift in (True, False):
        trunk = Trunk('resnet18', width=0.25, **TINY).eval()
        # A residual branch starts at 0 and would hide the shift.
        for name, parameter in trunk.named_parameters():
            if name.endswith('bn2.0.weight'):
                nn.init.ones_(parameter)
        if shift:
            insert_shift(trunk, 4, 4)
        with torch.no_grad():
            vector, = trunk(clip)[2]
            other, = trunk(clip.flip(0))[2]
        same = torch.allclose(vector, other.flip(0), atol=1e-5)
        assert same != shift


@pytest.mark.parametrize('settings, message', [
    (dict(num_segments=1), 'num_segments must be .* at least 2, got 1'),
    (dict(num_segments=8, shift_div=0), 'shift_div .* got 0'),
])
def test_refuses(settings, message):
    with pytest.raises(ValueError, match=message):
        insert_shift(Trunk('resnet18', width=0.25, **TINY), **settings)


def test_refuses_an_unknown_feature_branch():
    stages = tuple(
        nn.Conv2d(a, b, 3, 2, 1)
        for a, b in zip((8, 8, 16, 32), (8, 16, 32, 64)))
    branch = FeatureBranch(
        nn.Conv2d(3, 8, 3, 2, 1), stages, (8, 8, 16, 32, 64),
        (2, 4, 8, 16, 32), (0, 0, 0, 0))
    with pytest.raises(ValueError, match='no residual block.*BasicBlock'):
        insert_shift(Trunk(branch, num_latents=8), 8)


def test_refuses_convolutions_that_are_no_longer_plain():
    trunk = Trunk('resnet18', width=0.25, num_latents=16)
    conv = trunk.stages[1].conv[0].conv1
    conv.register_forward_hook(lambda module, inputs, out: 2 * out)
    with pytest.raises(ValueError, match=r'stages\.1\.conv\.0\.conv1'):
        insert_shift(trunk, 4)
