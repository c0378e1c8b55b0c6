# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Captured graphs: buckets, static memory and refusals, by a stand-in for
CUDA that repeats operators on the same tensors."""
import copy

import pytest
import torch

from mmdynperceiver.core import (DynPerceiver, ExitPolicy, Trunk,
                                 capture_segments, fixed_exit_thresholds,
                                 graph_statistics, prepare_for_inference,
                                 run_all_exits, run_early_exit)
from mmdynperceiver.core.accelerate.captured import GraphStatistics
from mmdynperceiver.core.accelerate.compiled import in_mode
from .tape import TapeCapture

SIZE = 32
BUCKETS = (1, 2, 4, 8)


@pytest.fixture(scope='module')
def net():
    """A tiny network whose exits disagree."""
    torch.manual_seed(0)
    net = DynPerceiver(
        dict(block='basic', depths=(1, 1, 1, 1)),
        width=0.125,
        num_latents=8,
        num_classes=5,
        depth_factor=(0, 0, 1 / 9, 1 / 3))
    with torch.no_grad():
        for classifier in net.exits.classifiers:
            for weight in classifier.parameters():
                weight.mul_(6)
        net.train()
        for _ in range(20):
            net(torch.randn(16, 3, SIZE, SIZE))
    return net.eval()


@pytest.fixture(scope='module')
def captured(net):
    """The same by graphs."""
    return capture_segments(net, BUCKETS, TapeCapture)


def random_thresholds(net, images):
    """Thresholds within what the exits say of these images."""
    with torch.no_grad():
        conf = torch.stack([x.softmax(1).amax(1) for x in net(images)])
    draw = torch.rand(3)
    return tuple(torch.quantile(row, q).item() for row, q in zip(conf, draw))


def check_same(one, other):
    """Two predictions agree."""
    assert torch.equal(one.exit_index, other.exit_index)
    atol = 1e-4 * other.logits.abs().amax().item()
    torch.testing.assert_close(one.logits, other.logits, atol=atol, rtol=0)
    torch.testing.assert_close(
        one.confidence, other.confidence, atol=1e-3, rtol=0)
    assert [t.dtype for t in one] == [t.dtype for t in other]
    assert all(t.is_contiguous() for t in one)


def test_random_batches(net, captured):
    """Every number of images, again and again on the same memory."""
    left = set()
    for seed in range(40):
        torch.manual_seed(seed)
        images = torch.randn(1 + seed % 8, 3, SIZE, SIZE)
        thresholds = random_thresholds(net, images)
        want = net.predict(images, thresholds)
        check_same(captured.predict(images, thresholds), want)
        left |= set(want.exit_index.tolist())
    assert left == {0, 1, 2, 3}
    assert graph_statistics(captured).misses == {}


def test_all_exits(net, captured):
    images = torch.randn(3, 3, SIZE, SIZE)
    with torch.no_grad():
        want = net(images)
    for got, logits in zip(captured(images), want, strict=True):
        torch.testing.assert_close(got, logits, atol=1e-4, rtol=1e-4)
    out = captured.predict(images)  # no thresholds
    assert out.exit_index.tolist() == [3, 3, 3]
    torch.testing.assert_close(out.logits, want[3], atol=1e-4, rtol=1e-4)


def test_results_are_the_callers(net, captured):
    first = captured.predict(torch.randn(2, 3, SIZE, SIZE), (0, 0, 0))
    kept = [t.clone() for t in first]
    captured.predict(torch.randn(2, 3, SIZE, SIZE), (2, 2, 2))
    assert all(map(torch.equal, first, kept))


def test_reads_one_number_at_each_exit(net):
    fast = capture_segments(net, (4, 1), TapeCapture)
    images = torch.randn(3, 3, SIZE, SIZE)
    for index, counts in ((0, 1), (1, 2), (3, 3)):
        fast.predict(images, fixed_exit_thresholds(index, 4))
        capture = fast.trunk.captured._capture
        assert capture.received == counts
        capture.received = 0
    fast.predict(images)
    assert capture.received == 0  # all go on: nothing to ask
    assert capture.recorded == 8
    found = graph_statistics(fast)
    assert found == GraphStatistics(8, 1, 4, {})
    assert str(found) == '8 graphs for 1 kinds of batches; 4 batches ran by ' \
        'them, 0 without'


def test_smaller_buckets_and_padding(net):
    """Survivors go on in the smallest batch, whatever else is in it."""
    fast = capture_segments(net, BUCKETS, TapeCapture)
    images = torch.randn(7, 3, SIZE, SIZE)
    with torch.no_grad():
        conf = net(images)[0].softmax(1).amax(1).sort().values
    fast.predict(torch.full((8, 3, SIZE, SIZE), torch.nan))
    graphs, = fast.trunk.captured._kinds.values()
    ran, run = [], graphs.run
    graphs.run = lambda index, batch: ran.append(run(index, batch)) or ran[-1]
    for stay, size in ((1, 1), (2, 2), (3, 4), (5, 8)):
        ran.clear()
        thresholds = ((conf[stay - 1] + conf[stay]).item() / 2, 2, 2)
        check_same(
            fast.predict(images, thresholds), net.predict(images, thresholds))
        assert ran == [8, size, size, size]


@pytest.mark.parametrize('settings', [
    dict(criterion='entropy', temperature=(1, 2, .5, 3)),
    dict(criterion='margin'),
    dict(criterion='patience'),
    dict(
        ensemble=dict(
            kind='average',
            weights=[[1], [.3, .7], [.2, .3, .5], [.1, .2, .3, .4]]),
        criterion='logistic',
        stopping=[[0, 1, -1, 1, .5, -1]] * 3),
])
def test_policies(net, settings):
    fast = capture_segments(net, (4, ), TapeCapture)
    for seed in range(4):
        torch.manual_seed(seed)
        images = torch.randn(4, 3, SIZE, SIZE)
        policy = ExitPolicy(4, (.3, .5, .7), **settings)
        check_same(*(run_early_exit(*model.exit_parts(), policy, images)
                     for model in (fast, net)))
    assert graph_statistics(fast).batches == 4
    # Each exit's own logits, whatever a policy made of them before.
    for one, other in zip(fast(images), net(images), strict=True):
        torch.testing.assert_close(one, other)


def test_videos(net):
    """The images of a sample stay together; a temporal shift needs that."""
    fast = capture_segments(net, (1, 2, 4), TapeCapture)
    for videos in (3, 1, 4):
        images = torch.randn(videos * 3, 3, SIZE, SIZE)
        logits = run_all_exits(*net.exit_parts(), images, 3)
        conf = logits[0].softmax(1).amax(1)
        policy = ExitPolicy(4, (conf.mean().item(), .6, .7))
        check_same(*(run_early_exit(*model.exit_parts(), policy, images, 3)
                     for model in (fast, net)))
    with pytest.raises(ValueError, match='do not make up samples'), \
            pytest.warns(UserWarning, match='no whole sample'):
        run_early_exit(*fast.exit_parts(), policy, images[:4], 3)


def test_prepared(net):
    images = torch.randn(2, 3, SIZE, SIZE)
    for dtype in (None, torch.bfloat16):
        prepared = prepare_for_inference(net, (SIZE, SIZE), dtype)
        fast = capture_segments(prepared, (2, ), TapeCapture)
        out = fast.predict(images)
        check_same(out, prepared.predict(images))
        assert out.logits.dtype == torch.float32


def test_under_inference_mode(net, captured):
    """Memory made there would be of no use outside."""
    fast = copy.deepcopy(captured)
    assert graph_statistics(fast).graphs == 0  # graphs are not copied
    images = torch.randn(2, 3, SIZE, SIZE)
    with torch.inference_mode():
        fast.predict(images, (.5, .5, .5))
    check_same(
        fast.predict(images, (.5, .5, .5)), net.predict(images, (.5, .5, .5)))
    assert fast.macs_per_exit((3, 64, 64)) == net.macs_per_exit((3, 64, 64))


def test_misses_are_counted_and_said(net):
    fast = capture_segments(net, (1, 2), TapeCapture)
    images = torch.randn(3, 3, SIZE, SIZE)
    with pytest.warns(UserWarning, match='do not run batches above 2'):
        check_same(fast.predict(images), net.predict(images))
    check_same(fast.predict(images), net.predict(images))
    with pytest.warns(UserWarning, match='under autocast'), \
            torch.autocast('cpu', torch.bfloat16):
        fast.predict(images[:1])
    with pytest.warns(UserWarning, match='need gradients'):
        fast(images[:1].requires_grad_())[0].sum().backward()
    with pytest.warns(UserWarning, match='no whole sample'):
        assert fast.predict(images[:0]).logits.shape == (0, 5)
    found = graph_statistics(fast)
    assert found == GraphStatistics(
        0, 0, 0, {
            'batches above 2': 2,
            'under autocast': 1,
            'images that need gradients': 1,
            'no whole sample': 1
        })
    assert '5 without (2 batches above 2, 1 under autocast, ' in str(found)


def test_limits_kinds(net, monkeypatch):
    monkeypatch.setattr('mmdynperceiver.core.accelerate.captured.MOST_KINDS',
                        1)
    fast = capture_segments(net, (1, ), TapeCapture)
    fast.predict(torch.randn(1, 3, SIZE, SIZE))
    images = torch.randn(1, 3, 64, 32)
    with pytest.warns(UserWarning, match='more than 1 sizes of images'):
        check_same(fast.predict(images), net.predict(images))


def test_stale_weights(net):
    images = torch.randn(1, 3, SIZE, SIZE)

    def fresh():
        fast = capture_segments(net, (1, ), TapeCapture)
        fast.predict(images)
        return fast

    fast = fresh()
    fast.load_state_dict(net.state_dict())
    with pytest.raises(RuntimeError, match='has changed or moved'):
        fast.predict(images)
    fast = fresh()
    fast.exits.classifiers[0].weight = torch.nn.Parameter(torch.zeros(5, 32))
    with pytest.raises(RuntimeError, match='^weight of a model from capture'):
        fast(images)
    fast = fresh()
    fast.trunk.double().float()
    with pytest.raises(RuntimeError, match='has changed or moved'):
        fast.predict(images)
    fast = fresh().train()
    with pytest.raises(RuntimeError, match='cannot be trained'):
        fast(images)
    with pytest.raises(RuntimeError, match='is on cpu, got images on meta'):
        fresh().trunk.captured._reason(None, images.to('meta'), 1)


def test_a_network_that_reads_numbers(net):
    """What cannot be captured says so."""
    odd = copy.deepcopy(net)
    odd.trunk.stages[0].blocks.register_forward_hook(
        lambda module, args, z: z * float(z.detach().abs().max() > -1))
    fast = capture_segments(odd, (1, ), TapeCapture)
    with pytest.raises(RuntimeError, match='segment of exit 0 .* captured'):
        fast.predict(torch.randn(1, 3, SIZE, SIZE))


def test_refuses(net):
    with pytest.raises(
            ValueError, match='on CUDA GPUs, and the model is on '
            'cpu'):
        capture_segments(net)
    with pytest.raises(ValueError, match=r'buckets must be .* got \(0, 2\)'):
        capture_segments(net, (0, 2))
    with pytest.raises(ValueError, match='Trunk has no classifiers'):
        capture_segments(Trunk('resnet18', width=.25, num_latents=8).eval())
    with pytest.raises(ValueError, match='has no captured graphs'):
        graph_statistics(net)
    with pytest.raises(RuntimeError, match='call eval'):
        capture_segments(copy.deepcopy(net).train())


def test_mode(net):
    """By its name, as tools ask for it."""
    with pytest.raises(ValueError, match='the model is on cpu'):
        in_mode(net, 'graphs-bf16')
