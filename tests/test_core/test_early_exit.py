# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Stopping for real gives what replaying the thresholds gives, for less."""
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from mmdynperceiver.core import (DynPerceiver, ExitPolicy, run_all_exits,
                                 run_early_exit, select_exits)
from mmdynperceiver.core.criteria import CRITERIA, confidence, confidences
from mmdynperceiver.core.early_exit import LoopState, as_images, average_groups
from mmdynperceiver.core.segments import TrunkState

NET = dict(arch='resnet18', width=0.25, num_latents=16, num_classes=10)


def make_net(num_classes=10):
    """A network whose exits disagree and whose batch norms are used."""
    torch.manual_seed(0)
    net = DynPerceiver(**{**NET, 'num_classes': num_classes})
    with torch.no_grad():
        for _ in range(3):
            net(torch.randn(16, 3, 64, 64))
        for layer in net.exits.modules():
            if isinstance(layer, torch.nn.Linear):
                layer.weight.mul_(5)
    return net.eval()


@pytest.fixture(scope='module')
def net():
    return make_net()


@pytest.fixture(scope='module')
def images():
    generator = torch.Generator().manual_seed(1)
    scale = torch.linspace(0.2, 3, 33)[:, None, None, None]
    return torch.randn(33, 3, 64, 64, generator=generator) * scale


@pytest.fixture(scope='module')
def all_logits(net, images):
    with torch.no_grad():
        return net(images)


def quantile_thresholds(all_logits, quantiles):
    return [
        confidence(logits).quantile(q).item()
        for logits, q in zip(all_logits, quantiles)
    ]


def test_select_keeps_the_layout():
    """Of maps that are stored channels last, and of others."""
    maps = torch.randn(4, 6, 3, 5)
    rows = torch.tensor([3, 1])
    for layout in (torch.channels_last, torch.contiguous_format):
        x = maps.contiguous(memory_format=layout)
        kept = LoopState(TrunkState(x, None)).select(rows)
        assert torch.equal(kept.state.x, maps[rows])
        assert kept.state.x.is_contiguous(memory_format=layout)


@pytest.mark.parametrize('quantiles', [(0.5, 0.5, 0.5), (0.9, 0.1, 0.5),
                                       (0.2, 0.9, 0.9), (0.95, 0.95, 0.95)])
@pytest.mark.parametrize('batch', [1, 2, 7, 33])
def test_equals_replay(net, images, all_logits, quantiles, batch):
    thresholds = quantile_thresholds(all_logits, quantiles)
    replay = select_exits(all_logits, thresholds)
    assert len(replay.exit_index.unique()) > 2
    outs = [net.predict(part, thresholds) for part in images.split(batch)]
    logits, exit_index, conf = map(torch.cat, zip(*outs))
    confidences = torch.stack([confidence(x) for x in all_logits[:3]])
    gap = (confidences - torch.tensor(thresholds)[:, None]).abs().amin(0)
    clear = gap > 1e-5
    assert clear.sum() >= len(images) - 3
    assert torch.equal(exit_index[clear], replay.exit_index[clear])
    torch.testing.assert_close(
        logits[clear], replay.logits[clear], atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(
        conf[clear], replay.confidence[clear], atol=1e-4, rtol=0)


@pytest.fixture(scope='module')
def pair_net(images):
    """With two classes, each predicted for half of the images."""
    net = make_net(num_classes=2)
    with torch.no_grad():
        for k, layer in enumerate(net.exits.classifiers):
            logits = net(images)[k]
            layer = layer if k < 2 else layer[-1]
            layer.bias[0] -= (logits[:, 0] - logits[:, 1]).median()
    return net


@pytest.mark.parametrize('temperature', [None, (0.5, 2, 3, 1)])
@pytest.mark.parametrize('criterion', CRITERIA)
def test_equals_replay_by_any_criterion(pair_net, images, criterion,
                                        temperature):
    net = pair_net
    with torch.no_grad():
        all_logits = net(images)
    conf = confidences(all_logits, criterion, temperature)
    # Halfway between two confidences, so that rounding does not decide; the
    # patience counts on which class is ahead, and both may be as good as even.
    thresholds = [0.3, 0.4, 0.4]
    clear = torch.ones(len(images), dtype=torch.bool)
    if criterion != 'patience':
        middle = conf.sort(dim=1).values[:3, 16:18].mean(1)
        thresholds = middle.tolist()
    else:
        lead = torch.stack(all_logits).diff(dim=2).abs().amin(0)[:, 0]
        clear = lead > 1e-3
        assert clear.sum() > 20
    policy = ExitPolicy(4, thresholds, criterion, temperature)
    expected = policy.replay(all_logits)
    assert len(expected.exit_index.unique()) > 2
    for batch in (1, 7, 33):
        outs = [
            run_early_exit(net.trunk, net.exits, policy, part)
            for part in images.split(batch)
        ]
        logits, exit_index, got = map(torch.cat, zip(*outs))
        for one, other in ((exit_index, expected.exit_index),
                           (logits, expected.logits), (got,
                                                       expected.confidence)):
            torch.testing.assert_close(
                one[clear], other[clear], atol=1e-4, rtol=0)


def test_patience_is_gathered_once(pair_net, images):
    # Nobody leaves at exit 0; at the next ones, who agrees with the one
    # before or with all.
    policy = ExitPolicy(4, (0.5, 0.5, 0.5), 'patience')
    with torch.no_grad():
        index = policy.replay(pair_net(images)).exit_index
    assert set(index.tolist()) == {1, 2, 3}
    with _CountOps() as counter:
        run_early_exit(pair_net.trunk, pair_net.exits, policy, images)
    assert counter.ops['aten::nonzero'] == 3
    assert counter.ops['aten::_local_scalar_dense'] == 0
    # x, z, knowledge and memory after exits 1 and 2; the row numbers once.
    assert counter.ops['aten::index_select'] == 2 * 4 + 1


@pytest.mark.parametrize('criterion', CRITERIA)
def test_bounds_by_any_criterion(net, images, criterion):
    for threshold, index in ((0, 0), (1.01, 3)):
        policy = ExitPolicy(4, (threshold, ) * 3, criterion)
        out = run_early_exit(net.trunk, net.exits, policy, images)
        assert out.exit_index.tolist() == [index] * len(images)


def test_bounds(net, images, all_logits):
    first = net.predict(images, (0, 0, 0))
    assert first.exit_index.tolist() == [0] * len(images)
    torch.testing.assert_close(first.logits, all_logits[0])
    last = net.predict(images, (1.01, 1.01, 1.01))
    assert last.exit_index.tolist() == [3] * len(images)
    torch.testing.assert_close(last.logits, all_logits[3])
    default = net.predict(images)
    assert torch.equal(default.logits, last.logits)


def test_empty_batch(net):
    out = net.predict(torch.empty(0, 3, 64, 64), (0.5, 0.5, 0.5))
    assert out.logits.shape == (0, 10)
    assert out.exit_index.shape == out.confidence.shape == (0, )


def test_nothing_is_computed_for_who_has_left(net, images, all_logits):
    thresholds = quantile_thresholds(all_logits, (0.5, 0.5, 0.5))
    index = select_exits(all_logits, thresholds).exit_index
    seen = {}
    parts = dict(
        exit1=net.trunk.stages[2].conv,
        exit2=net.trunk.stages[3].conv,
        exit3=net.trunk.last_z2x)
    hooks = [
        part.register_forward_hook(
            lambda _, args, __, name=name: seen.update({name: len(args[0])}))
        for name, part in parts.items()
    ]
    try:
        net.predict(images, thresholds)
        assert seen == {f'exit{k}': int((index >= k).sum()) for k in (1, 2, 3)}
        seen.clear()
        net.predict(images, (0, 0.5, 0.5))
        assert seen == {}
    finally:
        for hook in hooks:
            hook.remove()


class _CountOps(TorchDispatchMode):
    """Count the operations that are called."""

    def __init__(self):
        super().__init__()
        self.ops = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.ops[func.overloadpacket._qualified_op_name] += 1
        return func(*args, **(kwargs or {}))


def test_one_synchronisation_and_one_gather_per_exit(net, images, all_logits):
    thresholds = quantile_thresholds(all_logits, (0.5, 0.5, 0.5))
    with _CountOps() as counter:
        net.predict(images, thresholds)
    ops = counter.ops
    assert ops['aten::nonzero'] == 3
    assert ops['aten::_local_scalar_dense'] == ops['aten::index'] == 0
    # x, z and knowledge after each of three exits; the row numbers after the
    # second and the third.
    assert ops['aten::index_select'] == 3 * 3 + 2


def test_predict_refuses_training_mode(images):
    with pytest.raises(RuntimeError, match=r'eval\(\)'):
        DynPerceiver(**NET).predict(images)


@pytest.mark.parametrize('images, error, message', [
    (torch.rand(1, 3, 31, 64), ValueError, 'at least 32 pixels.*31x64'),
    (torch.rand(3, 64, 64), ValueError, r'\(B, 3, H, W\).*images\[None\]'),
    (torch.rand(64, 64, 3), ValueError, r'permute\(2, 0, 1\)\[None\]'),
    (torch.rand(2, 64, 64, 3), ValueError, r'permute\(0, 3, 1, 2\)'),
    (torch.rand(1, 1, 64, 64), ValueError, r'\(1, 1, 64, 64\).*repeats grey'),
    (torch.rand(1, 4, 64, 64), ValueError, 'transparency'),
    (torch.rand(1, 8, 3, 64, 64), ValueError, r'flatten\(0, 1\)'),
    (torch.tensor(1.), ValueError, r'got \(\)'),
    (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), TypeError,
     r'a tensor of uint8 \(1, 3, 64, 64\).*float\(\) - mean'),
    (np.zeros((1, 3, 64, 64), np.float32), TypeError,
     r'a NumPy array of float32 \(1, 3, 64, 64\): torch.from_numpy'),
    (Image.new(
        'L', (64, 48)), TypeError, r'a PIL image \(L, 64x48\).*pil_to_tensor'),
    ([torch.zeros(3, 64, 64)], TypeError,
     r'a list of 1, the first a tensor of float32 .*torch.stack'),
    ([1, 2], TypeError, 'a list of 2, the first an int'),
    ('cat.jpg', TypeError, 'a str'),
    (None, TypeError, 'got None'),
])
def test_refuses_other_images(net, images, error, message):
    for call in (net, lambda x: net.predict(x, (0.5, 0.5, 0.5))):
        with pytest.raises(error, match=message):
            call(images)


def test_a_training_batch_of_one(images):
    net = DynPerceiver(**NET)
    before = net.exits.classifiers[3][0].running_mean.clone()
    # 32 pixels leave 1x1 maps, whose batch norms need company as well.
    logits = net(images[:1, :, :32, :32])
    assert torch.equal(net.exits.classifiers[3][0].running_mean, before)
    assert all(module.training for module in net.modules())
    sum(x.sum() for x in logits).backward()
    net(images[:2])
    assert not torch.equal(net.exits.classifiers[3][0].running_mean, before)


def test_segments_fold_to_the_whole(net, images):
    logits = run_all_exits(net.trunk, net.exits, images)
    state, knowledge = net.trunk.initial_state(images), None
    for k, expected in enumerate(logits):
        state, features = net.trunk.segment(k, state)
        assert tuple(f.shape[1] for f in features) == \
            net.trunk.exit_channels[k]
        got, knowledge = net.exits.step(k, features, knowledge)
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize('criterion', CRITERIA)
def test_groups_leave_together(net, images, criterion):
    """Eleven groups of three images decide on their averaged logits."""
    with torch.no_grad():
        averaged = [average_groups(logits, 3) for logits in net(images)]
    for logits, single in zip(averaged, net(images)):
        expected = torch.stack([rows.mean(0) for rows in single.split(3)])
        torch.testing.assert_close(logits, expected)
    middle = confidences(averaged, criterion).sort(dim=1).values[:3, 4:6]
    thresholds = middle.mean(1).tolist() if criterion != 'patience' else \
        [2, 0.5, 0.5]
    policy = ExitPolicy(4, thresholds, criterion)
    expected = policy.replay(averaged)
    assert len(expected.exit_index.unique()) > 1
    out = run_early_exit(net.trunk, net.exits, policy, images, group=3)
    assert torch.equal(out.exit_index, expected.exit_index)
    torch.testing.assert_close(out.logits, expected.logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        out.confidence, expected.confidence, atol=1e-4, rtol=0)


def test_a_batch_of_videos_is_laid_out_in_rows(images):
    videos = images[:30].unflatten(0, (5, 6))
    rows, group = as_images(videos)
    assert group == 6 and torch.equal(rows, images[:30])
    assert as_images(images) == (images, 1)


@pytest.mark.parametrize('group', [0, 2, 1.5])
def test_refuses_incomplete_groups(net, images, group):
    with pytest.raises(ValueError, match=f'samples of {group}'):
        run_early_exit(net.trunk, net.exits, ExitPolicy(4), images, group)


def test_macs_of_several_images(net):
    one = net.macs_per_exit((3, 64, 64))
    assert net.macs_per_exit((5, 3, 64, 64)) == tuple(5 * m for m in one)
    with pytest.raises(ValueError, match='of an image or .* of a video'):
        net.macs_per_exit((64, 64))
