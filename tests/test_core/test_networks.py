# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Networks of other families: as published, and left early as replayed."""
import copy

import pytest
import torch
from tiny_networks import TRUNKS, build_network, spread

from mmdynperceiver.core import (EarlyExitNet, build_feature_branch,
                                 capture_segments, fixed_exit_thresholds,
                                 macs_per_exit, prepare_for_inference)
from mmdynperceiver.core.accelerate.copies import on_meta
from mmdynperceiver.core.early_exit import LoopState
from mmdynperceiver.core.networks import MSDNet, RANet, ResolutionCascade
from mmdynperceiver.core.networks.msdnet import block_layers
from mmdynperceiver.core.numpy_segments import NumpySegments
from .test_accelerate.tape import TapeCapture

CIFAR = dict(
    stem_channels=16,
    growth=6,
    growth_factors=(1, 2, 4),
    bottleneck_factors=(1, 2, 4),
    stem_stride=1,
    exit_width=128)
IMAGES = torch.randn(9, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope='module', params=TRUNKS)
def net(request):
    return build_network(request.param)


@pytest.fixture(scope='module')
def logits(net):
    with torch.no_grad():
        return net(IMAGES)


@pytest.fixture(scope='module')
def thresholds(logits):
    return spread(logits)


def count(make, num_classes, size):
    """Parameters, and MACs in millions, on the meta device."""
    with torch.device('meta'):
        net = on_meta(EarlyExitNet(make(), num_classes))
    macs = macs_per_exit(*net.exit_parts(), (3, size, size))
    return sum(p.numel() for p in net.parameters()), [m / 1e6 for m in macs]


def test_really_stopping_equals_the_replay(net, logits, thresholds):
    policy = type(net.policy)(len(logits), thresholds)
    expected = policy.replay(logits)
    assert len(set(expected.exit_index.tolist())) == len(logits)
    out = net.predict(IMAGES, thresholds)
    assert torch.equal(out.exit_index, expected.exit_index)
    torch.testing.assert_close(out.logits, expected.logits)
    for exit, wanted in enumerate(logits):
        fixed = fixed_exit_thresholds(exit, len(logits))
        found = net.predict(IMAGES[:2], fixed)
        torch.testing.assert_close(found.logits, wanted[:2])


def test_those_who_left_are_not_computed(net, thresholds):
    """Each segment meets as many images as are left."""
    seen = []

    def run_segment(index, state):
        seen.append(len(state[0]))
        return type(net.trunk).run_segment(net.trunk, index, state)

    net.trunk.run_segment = run_segment
    try:
        left = net.predict(IMAGES, thresholds).exit_index
    finally:
        del net.trunk.run_segment
    assert seen == [int((left >= k).sum()) for k in range(len(seen))]
    assert seen == sorted(set(seen), reverse=True)


def test_prepared_captured_and_as_arrays(net, logits, thresholds):
    out = net.predict(IMAGES, thresholds)
    prepared = prepare_for_inference(net, (32, 32))
    norms = [
        m for m in prepared.modules() if isinstance(m, torch.nn.BatchNorm2d)
    ]
    assert norms == []
    assert prepared.macs_per_exit((3, 32, 32)) == net.macs_per_exit(
        (3, 32, 32))
    captured = capture_segments(net, (1, 2, 4, 16), TapeCapture)
    for other in (prepared, captured):
        found = other.predict(IMAGES, thresholds)
        assert torch.equal(found.exit_index, out.exit_index)
        torch.testing.assert_close(
            found.logits, out.logits, atol=1e-3, rtol=1e-3)
    steps = NumpySegments(*net.exit_parts(), (32, 32))
    tensors = dict(images=IMAGES.numpy())
    for index, wanted in enumerate(logits):
        found = torch.from_numpy(steps.step(index, tensors, None))
        torch.testing.assert_close(found, wanted)


def test_every_parameter_gets_a_gradient(net):
    copied = copy.deepcopy(net).train().requires_grad_()
    sum(x.sum() for x in copied(IMAGES[:4])).backward()
    assert [n for n, p in copied.named_parameters() if p.grad is None] == []


def test_scales_end_and_are_carried_no_further(net):
    if not isinstance(net.trunk, MSDNet):
        pytest.skip('of MSDNet alone')
    state, kept = net.trunk.initial_state(IMAGES), []
    for index in range(net.trunk.num_segments):
        state, _ = net.trunk.segment(index, state)
        kept.append(sum(t is not None for t in state))
    assert kept == [3, 2, 1]
    carried = LoopState(state).select(torch.tensor([3, 1]))
    assert torch.equal(carried.state.x, state.x[[3, 1]])


@pytest.mark.parametrize('settings, num_classes, parameters, macs', [
    (dict(num_exits=10, base=4, step=2, **CIFAR), 10, 4_839_544, {
        0: 15.13,
        4: 62.12,
        9: 121.56
    }),
    (dict(step=4, base=4), 1000, 23_958_440,
     dict(enumerate((339.90, 685.46, 1008.16, 1254.47, 1360.53)))),
    (dict(step=7, base=7), 1000, 62_314_472,
     dict(enumerate((615.69, 1436.39, 2283.21, 2967.42, 3253.79)))),
])
def test_msdnet_is_the_published(settings, num_classes, parameters, macs):
    """The authors' first convolution on ImageNet has a bias of 32 numbers;
    their MACs add norms, activations and pooling."""
    found, exits = count(lambda: MSDNet(**settings), num_classes,
                         224 if num_classes == 1000 else 32)
    assert parameters - found == (32 if num_classes == 1000 else 0)
    for exit, wanted in macs.items():
        assert exits[exit] < wanted
        assert exits[exit] == pytest.approx(wanted, rel=0.012)


@pytest.mark.parametrize('settings, num_classes, parameters, macs', [
    (dict(
        CIFAR,
        scales=(1, 2, 3, 3),
        step=2,
        step_mode='linear',
        growth_factors=(4, 2, 1, 1),
        bottleneck_factors=(4, 2, 1, 1)), 10, 3_967_697,
     (10.74, 24.14, 35.22, 43.90, 55.60, 61.30, 105.56, 117.27)),
    (dict(), 1000, 131_123_991,
     (246.47, 631.16, 860.40, 1041.14, 1869.85, 2160.38, 2734.28, 2828.31)),
])
def test_ranet_is_the_published(settings, num_classes, parameters, macs):
    """As of MSDNet: a bias of 32 numbers, and what is added to the MACs."""
    found, exits = count(lambda: RANet(**settings), num_classes,
                         224 if num_classes == 1000 else 32)
    assert parameters - found == (32 if num_classes == 1000 else 0)
    assert all(one < wanted for one, wanted in zip(exits, macs))
    assert exits == pytest.approx(macs, rel=0.01)


@torch.no_grad()
def test_layers_read_the_resolution_below():
    """What the blocks of a sub-network hand on is what its layers made."""
    trunk = TRUNKS['ranet']().eval()
    first, second = trunk.networks[0][1], trunk.networks[1][1]
    x, seen = torch.randn(2, first.widths[0], 5, 5), []
    hooks = [
        conv.register_forward_pre_hook(lambda layer, given: seen.append(given))
        for conv in (*first.keep, *second.up)
    ]
    _, kept = first(x, ())
    second(torch.randn(2, second.widths[0], 10, 10), kept)
    for hook in hooks:
        hook.remove()
    made = [given for given, in seen]
    assert torch.equal(made[2], made[0]) and torch.equal(made[3], made[1])
    assert torch.equal(made[4], kept[-1])
    assert second.halves and not first.halves
    # All exits read maps of the lowest resolution.
    state = trunk.initial_state(IMAGES)
    for index in range(trunk.num_segments):
        state, _ = trunk.segment(index, state)
        assert state.x.shape[2:] == (2, 2)


def test_blocks_as_published():
    assert block_layers(7, 4, 2, 'even') == [4, 2, 2, 2, 2, 2, 2]
    assert block_layers(5, 1, 1, 'linear') == [1, 2, 3, 4, 5]


@pytest.mark.parametrize('wrong', [
    dict(num_exits=0),
    dict(step=1.5),
    dict(growth_factors=()),
    dict(growth=3, growth_factors=(1, 1), bottleneck_factors=None),
    dict(bottleneck_factors=(1, 2)),
    dict(step_mode='odd'),
    dict(reduction=0),
    dict(stem_stride=2),
])
def test_msdnet_refuses(wrong):
    name = list(wrong)[0]
    with pytest.raises(ValueError, match=f'{name}.*got'):
        MSDNet(**wrong)


@pytest.mark.parametrize('wrong', [
    dict(scales=(2, 3, 3, 4)),
    dict(scales=(1, 3, 3, 4)),
    dict(growth_factors=(1, 1), bottleneck_factors=None),
    dict(bottleneck_factors=(1, 2)),
    dict(fusion=1),
    dict(growth=2),
    dict(num_blocks=0),
    dict(num_blocks=40),
])
def test_ranet_refuses(wrong):
    name = list(wrong)[0]
    with pytest.raises(ValueError, match=f'{name}.*(got|take fewer)'):
        RANet(**wrong)


def test_a_cascade_adds_up_what_each_size_costs():
    trunk = TRUNKS['cascade']().eval()
    assert trunk.sizes((224, 224)) == [(112, 112), (160, 160), (224, 224)]
    # The first network needs a view of 16 pixels, half of the image.
    assert trunk.min_size == 32
    with pytest.raises(ValueError, match='at least 32 pixels'):
        trunk(IMAGES[..., :31, :31])
    assert all(vectors[0].shape == (9, 64) for vectors in trunk(IMAGES))
    macs = count(TRUNKS['cascade'], 5, 64)[1]

    def first():
        return ResolutionCascade([
            build_feature_branch(
                dict(block='basic', depths=(1, 1, 1, 1), stem_stride=2), 0.125)
        ], (1, ))

    for index, size in enumerate((32, 46, 64)):
        spent = macs[index] - (macs[index - 1] if index else 0)
        assert spent == pytest.approx(count(first, 5, size)[1][0])


def test_the_first_view_is_an_average():
    trunk = TRUNKS['cascade']().eval()
    state = trunk.initial_state(IMAGES)
    after, (vector, ) = trunk.segment(0, state)
    small = torch.nn.functional.avg_pool2d(IMAGES, 2)
    torch.testing.assert_close(vector, trunk.networks[0](small).mean((2, 3)))
    assert after.x is state.x


@pytest.mark.parametrize('scales', [(), (0.5, ), (0.7, 0.5, 1), (0, 0.5, 1),
                                    (0.5, 1)])
def test_a_cascade_refuses(scales):
    branches = [build_feature_branch('resnet18', 0.125) for _ in range(3)]
    with pytest.raises(ValueError, match='got'):
        ResolutionCascade(branches, scales)
