# Copyright (c) mmdynperceiver contributors. All rights reserved.
import pytest
import torch

from mmdynperceiver.core import DynPerceiver
from mmdynperceiver.report import activation_maps


def build(arch='resnet18', **kwargs):
    torch.manual_seed(0)
    return DynPerceiver(
        arch,
        width=0.5 if 'mobile' in arch else 0.25,
        num_latents=16,
        num_classes=5,
        depth_factor=(0, 0, 1 / 9, 1 / 3),
        **kwargs).eval()


@pytest.mark.parametrize('kwargs', [
    dict(),
    dict(arch='mobilenetv3-large'),
    dict(x2z=False),
    dict(z2x=False, last_z2x=False, fkt=False),
    dict(token_mixer=False),
])
def test_shape_and_range(kwargs):
    images = torch.rand(3, 3, 64, 48)
    with torch.no_grad():
        maps = activation_maps(build(**kwargs), images)
    assert maps.shape == (4, 3, 64, 48)
    assert not maps.requires_grad
    assert maps.min() >= 0
    peaks = maps.amax((2, 3))
    assert (((peaks - 1).abs() < 1e-6) | (peaks == 0)).all()
    # Untrained weights may leave nothing that speaks for a class.
    assert (peaks > 0).any(1).sum() >= 3


def test_maps_follow_the_class():
    net, images = build(), torch.rand(2, 3, 64, 64)
    maps = torch.stack(
        [activation_maps(net, images, torch.tensor([k, k])) for k in range(2)])
    differ = (maps[0] - maps[1]).abs().amax((1, 2, 3))
    assert (differ > 0.05).all()


def test_default_is_the_predicted_class():
    net, images = build(), torch.rand(2, 3, 64, 64)
    predicted = torch.stack([x.argmax(1) for x in net(images)])
    torch.testing.assert_close(
        activation_maps(net, images), activation_maps(net, images, predicted))


def test_samples_do_not_mix():
    net, images = build(), torch.rand(3, 3, 64, 64)
    together = activation_maps(net, images, torch.tensor([1, 2, 3]))
    alone = activation_maps(net, images[1:2], torch.tensor([2]))
    torch.testing.assert_close(together[:, 1:2], alone, atol=1e-3, rtol=1e-3)


def test_last_features_by_hand():
    """The score of exit 2 is linear in the mean of its features."""
    net, images = build(), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        state = net.trunk.initial_state(images)
        for k in range(3):
            state, _ = net.trunk.segment(k, state)
        weight = net.exits.classifiers[2][-1].weight[4]
        wanted = torch.einsum('c,bchw->bhw', weight, state.x).relu()
    wanted = torch.nn.functional.interpolate(
        wanted[None], size=(64, 64), mode='bilinear')[0]
    wanted /= wanted.max().clamp(min=1e-30)
    maps = activation_maps(net, images, torch.tensor([4]))
    torch.testing.assert_close(maps[2], wanted, atol=1e-4, rtol=1e-4)


def test_nothing_is_left_behind():
    net, images = build(), torch.rand(1, 3, 64, 64)
    activation_maps(net, images)
    assert all(p.grad is None for p in net.parameters())
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_errors():
    net, images = build(), torch.rand(2, 3, 64, 64)
    with pytest.raises(ValueError, match='classes must be 0 to 4'):
        activation_maps(net, images, torch.tensor([0, 5]))
    with pytest.raises(ValueError, match=r'of the shape \(2,\)'):
        activation_maps(net, images, torch.tensor([0, 1, 2]))
    with pytest.raises(RuntimeError, match='eval'):
        activation_maps(net.train(), images)
