# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Outcomes of the scheduler against those of the runner, and its rules."""
import threading
import time

import numpy as np
import pytest
import torch

from mmdynperceiver.core.numpy_segments import NumpySegments
from mmdynperceiver.deploy import Policy
from mmdynperceiver.serve.row_ring import RowRing
from mmdynperceiver.serve.scheduler import (RefusedError, StagedScheduler,
                                            Waiting, choose_segment)
from mmdynperceiver.serve.segment_costs import SegmentCosts, measure_costs

# A larger batch always pays.
STEEP = SegmentCosts((1, 8), ((1., 1.1), ) * 4)
FLAT = SegmentCosts((1, 8), ((1., 8.), ) * 4)


@pytest.fixture
def start():
    """Starts schedulers, and closes them."""
    started = []

    def make(*args, **kwargs):
        started.append(StagedScheduler(*args, **kwargs))
        return started[-1]

    yield make
    for scheduler in started:
        scheduler.close(10)


def check_equal(served, expected):
    """What is served, against an outcome of the runner."""
    assert [s.exit_index for s in served] == expected.exit_index.tolist()
    np.testing.assert_allclose([s.logits for s in served],
                               expected.logits,
                               atol=1e-3)
    np.testing.assert_allclose([s.confidence for s in served],
                               expected.confidence,
                               atol=1e-3)


@pytest.mark.parametrize('name, workers, costs', [('openvino', 2, STEEP),
                                                  ('onnxruntime', 1, STEEP),
                                                  ('onnxruntime', 1, FLAT),
                                                  ('onnxruntime', 3, STEEP)])
def test_equals_the_runner_under_load(spread, name, start, workers, costs):
    pytest.importorskip(name)
    runner, images = spread(name)
    expected = runner.predict(images)
    assert len(set(expected.exit_index.tolist())) == 4
    scheduler = start(runner, runner.policy, costs, 8, workers=workers)
    results = [None] * len(images)

    def client(first):
        for k in range(first, len(images), 4):
            results[k] = scheduler.submit(images[k])

    clients = [threading.Thread(target=client, args=(k, )) for k in range(4)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    served = [future.result(30) for future in results]
    check_equal(served, expected)
    assert scheduler.under_way == 0 and scheduler.waiting == [0] * 4
    assert all(s.milliseconds > 0 for s in served)


@pytest.mark.parametrize('settings', [
    dict(criterion='entropy'),
    dict(criterion='margin'),
    dict(criterion='patience'),
    dict(
        ensemble=dict(
            kind='average',
            weights=[[1], [.3, .7], [.2, .3, .5], [.1, .2, .3, .4]])),
])
def test_equals_the_runner_by_every_criterion(spread, start, settings):
    runner, images = spread()
    policy = Policy(4, (0.2, 0.4, 0.6), **settings)
    expected = runner.predict(images, policy)
    scheduler = start(runner, policy, STEEP, 8)
    futures = [scheduler.submit(image) for image in images]
    check_equal([future.result(30) for future in futures], expected)


def test_equals_a_network_in_torch(resnet, spread, start):
    runner, images = spread()
    segments = NumpySegments(*resnet.net.exit_parts(), (48, 48))
    with torch.no_grad():
        expected = resnet.net.predict(
            torch.from_numpy(images), runner.policy.thresholds)
    scheduler = start(segments, runner.policy, STEEP, 8)
    futures = [scheduler.submit(image) for image in images]
    served = [future.result(30) for future in futures]
    assert [s.exit_index for s in served] == expected.exit_index.tolist()
    np.testing.assert_allclose([s.logits for s in served],
                               expected.logits,
                               atol=1e-5)


def test_survivors_of_many_requests_fill_batches(spread, slow, start):
    runner, images = spread()
    segments, go = slow(runner), threading.Event()
    segments.before = lambda index, size: go.wait(10)
    scheduler = start(segments, Policy(4, (2, 2, 2)), STEEP, 8, 64, 1e6)
    futures = [scheduler.submit(images[0])]
    while not segments.runs:
        time.sleep(0.001)
    futures += [scheduler.submit(image) for image in images[1:16]]
    go.set()
    for future in futures:
        assert future.result(30).exit_index == 3
    # The first image was alone. It waits for the others of segment 1, and
    # full batches go first, the deepest of them.
    full = [(index, 8) for index in range(4)]
    assert segments.runs == [(0, 1), *full, (0, 7), *full[1:]]


def test_where_batches_do_not_pay_nobody_waits_for_one(spread, slow, start):
    runner, images = spread()
    segments, go = slow(runner), threading.Event()
    segments.before = lambda index, size: go.wait(10)
    scheduler = start(segments, Policy(4, (2, 2, 2)), FLAT, 8)
    futures = [scheduler.submit(image) for image in images[:3]]
    go.set()
    [future.result(30) for future in futures]
    assert segments.runs == [(index, 1) for _ in range(3)
                             for index in range(4)]


def test_a_deadline_goes_before_new_requests(spread, slow, start):
    runner, images = spread()
    segments = slow(runner)
    segments.before = lambda index, size: time.sleep(0.01)
    scheduler = start(segments, Policy(4, (2, 2, 2)), STEEP, 8, 999, 30.)
    first = scheduler.submit(images[0])
    others = []
    while not first.done():
        others.append(scheduler.submit(images[1]))
        time.sleep(0.004)
        assert len(others) < 200
    assert first.result().exit_index == 3
    [future.result(30) for future in others]


def test_full_queues_refuse_at_once_and_lose_nobody(spread, slow, start):
    runner, images = spread()
    segments, go = slow(runner), threading.Event()
    segments.before = lambda index, size: go.wait(10)
    scheduler = start(segments, runner.policy, STEEP, 4, max_waiting=6)
    futures = [scheduler.submit(image) for image in images[:6]]
    with pytest.raises(RefusedError, match='6 images are under way'):
        scheduler.submit(images[6])
    go.set()
    check_equal([future.result(30) for future in futures],
                runner.predict(images[:6]))
    scheduler.submit(images[6]).result(30)
    scheduler.close(10)
    with pytest.raises(RefusedError, match='stopping'):
        scheduler.submit(images[6])


def test_each_image_leaves_by_the_policy_it_came_with(spread, slow, start):
    runner, images = spread()
    segments, go = slow(runner), threading.Event()
    segments.before = lambda index, size: go.wait(10)
    scheduler = start(segments, runner.policy, STEEP, 8)
    policies = [Policy(4, (0, 2, 2)), Policy(4, (2, 2, 2), 'patience'), None]
    futures = [
        scheduler.submit(image, policies[k % 3])
        for k, image in enumerate(images)
    ]
    go.set()
    served = [future.result(30) for future in futures]
    for k, policy in enumerate(policies):
        check_equal(served[k::3], runner.predict(images[k::3], policy))
    assert {s.policy for s in served[2::3]} == {runner.policy}


def test_who_hangs_up_is_dropped(spread, slow, start):
    runner, images = spread()
    segments, go = slow(runner), threading.Event()
    segments.before = lambda index, size: go.wait(10)
    scheduler = start(segments, Policy(4, (2, 2, 2)), STEEP, 8)
    futures = [scheduler.submit(image) for image in images[:6]]
    assert all(future.cancel() for future in futures[1:4])
    go.set()
    for future in futures[:1] + futures[4:]:
        assert future.result(30).exit_index == 3
    assert scheduler.under_way == 0
    assert max(size for index, size in segments.runs if index == 3) < 6


def test_a_bad_image_fails_alone(spread, slow, start):
    runner, images = spread()
    segments, go = slow(runner), threading.Event()
    segments.before = lambda index, size: go.wait(10)
    scheduler = start(segments, runner.policy, STEEP, 8)
    huge = np.full_like(images[0], 3e38)
    with np.errstate(all='ignore'):
        futures = [
            scheduler.submit(huge if k == 3 else image)
            for k, image in enumerate(images[:9])
        ]
        go.set()
        with pytest.raises(ValueError, match='not finite'):
            futures.pop(3).result(30)
    check_equal([future.result(30) for future in futures],
                runner.predict(np.delete(images[:9], 3, 0)))
    assert scheduler.alive and scheduler.under_way == 0


def queues(*found):
    """Queues with batches of 4: how many wait, since when, and where."""
    return [
        Waiting(count, 4, arrived, entered)
        for count, arrived, entered in found
    ]


@pytest.mark.parametrize('expected, found', [
    (None, queues((0, 0, 0), (0, 0, 0), (0, 0, 0))),
    (0, queues((1, 99, 99), (3, 99, 99), (3, 99, 99))),
    (1, queues((0, 0, 0), (1, 99, 99), (1, 99, 99))),
    (2, queues((4, 99, 99), (4, 99, 99), (4, 99, 99))),
    (1, queues((4, 99, 99), (4, 99, 99), (3, 99, 99))),
    (2, queues((4, 99, 99), (4, 99, 99), (1, 90, 99))),
    (1, queues((8, 80, 80), (4, 80, 90), (1, 80, 90))),
    (2, queues((8, 10, 10), (4, 10, 90), (1, 10, 20))),
])
def test_chooses_the_deepest_full_or_late(expected, found):
    """At the time 100, where 10 is the wait; in a backlog only full ones."""
    able = [index for index, queue in enumerate(found) if queue.images]
    assert choose_segment(able, found, 100, 10) == expected


@pytest.mark.parametrize('change, error, message',
                         [(lambda x: x[:, :40], ValueError, r'\(B, 3, 48'),
                          (lambda x: x.astype(float), TypeError, 'float32'),
                          (lambda x: x * np.nan, ValueError, 'finite'),
                          (lambda x: x.tolist(), TypeError, 'NumPy array')])
def test_refuses_what_is_no_image(spread, start, change, error, message):
    runner, images = spread()
    scheduler = start(runner, runner.policy, FLAT, 8)
    with pytest.raises(error, match=message):
        scheduler.submit(change(images[0]))
    with pytest.raises(ValueError, match='workers must be at least 1, got 0'):
        StagedScheduler(runner, runner.policy, FLAT, workers=0)


def test_costs_decide_how_many_run_together(spread):
    costs = SegmentCosts((1, 2, 4, 8), ((1., 2., 4., 8.), (1., 1.5, 2., 3.9),
                                        (4., 4., 4., 4.), (1., 1.5, 2.4, 4.0)))
    assert [costs.batch_size(k, 8) for k in range(4)] == [1, 4, 8, 8]
    assert [costs.batch_size(k, 4) for k in range(4)] == [1, 4, 4, 4]
    assert costs.of_batch(1, 3) == 1.75
    assert costs.per_image([1, 4, 8, 2]) == [1., .5, .5, .75]
    measured = measure_costs(spread().runner, 3, 1)
    assert measured.sizes == (1, 2, 3)
    assert np.array(measured.milliseconds).shape == (4, 3)
    assert np.array(measured.milliseconds).min() > 0


def test_ring_keeps_the_order_over_its_end():
    ring, rng = RowRing(7), np.random.default_rng(0)
    written, read, out = 0, 0, []
    while read < 300:
        count = int(rng.integers(0, ring.room + 1))
        if count:
            values = np.arange(written, written + count, dtype=np.float32)
            mixed = np.stack([values, -values], 1)[::-1]
            ring.put(
                dict(a=mixed, b=mixed[:, 0]),
                range(count)[::-1], range(written, written + count))
            written += count
        if ring:
            taken = ring.take(int(rng.integers(1, 4)))
            expected = np.arange(read, read + len(taken.entries))
            assert taken.entries == expected.tolist()
            np.testing.assert_array_equal(taken.tensors['a'][:, 0], expected)
            np.testing.assert_array_equal(taken.tensors['b'], expected)
            read += len(expected)
            out.append(taken)
        rng.shuffle(out)
        while len(out) > (1 if ring.room else 0):
            ring.free(out.pop())
    while out:
        ring.free(out.pop())
    assert ring.room == 7 - len(ring)
