# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The simulation against the real scheduler, and against theory."""
import random
import time

import numpy as np
import pytest

from mmdynperceiver.deploy import Policy
from mmdynperceiver.serve.scheduler import StagedScheduler
from mmdynperceiver.serve.segment_costs import SegmentCosts
from mmdynperceiver.serve.simulation import capacity, simulate

SHARES = (.5, .25, .1, .15)
# A batch costs 12 ms and 1 ms an image, so that what a busy machine adds to
# sleeping that long is little.
COSTS = SegmentCosts((1, 2, 4, 8), ((13., 14., 16., 20.), ) * 4)


class Sleeping:
    """Segments that take the time that they cost, and no processor; an image
    holds its exit in its first pixel."""

    num_exits = 4
    image_shape = (1, 1, 1)

    def step(self, index, tensors, held):
        exits = next(iter(tensors.values()))
        tensors.clear()
        tensors['x'] = exits
        time.sleep(COSTS.of_batch(index, len(exits)) / 1000)
        sure = exits.reshape(-1, 1) <= index
        return np.concatenate([10. * sure, np.zeros(sure.shape)],
                              1).astype(np.float32)


def time_real(leaving, rate, rng):
    """Milliseconds of images that the real scheduler serves, and exits."""
    scheduler = StagedScheduler(Sleeping(), Policy(4, (.9, .9, .9)), COSTS, 8,
                                len(leaving))
    futures, due = [], time.perf_counter()
    for leaves in leaving:
        time.sleep(max(0., due - time.perf_counter()))
        futures.append(
            scheduler.submit(np.full((1, 1, 1), leaves, np.float32)))
        due += rng.expovariate(rate)
    served = [future.result(30) for future in futures]
    scheduler.close()
    return [s.milliseconds for s in served], [s.exit_index for s in served]


def test_equals_the_real_scheduler():
    rate, count, rng = 60., 240, random.Random(1)
    leaving = rng.choices(range(4), SHARES, k=count)
    shares = np.bincount(leaving, minlength=4) / count
    expected = np.mean([
        simulate(COSTS, shares, rate, images=count, most=8,
                 seed=seed).milliseconds.mean() for seed in range(20)
    ])
    for attempt in range(4):
        real, exits = time_real(leaving, rate, rng)
        assert exits == leaving
        # A busy machine is late, never early.
        if np.mean(real) < 1.35 * expected:
            break
    assert np.mean(real) == pytest.approx(expected, rel=0.35)


def test_one_server_without_batches_is_what_theory_says():
    # M/D/1: the mean wait is rho / (2 (1 - rho)) services.
    costs = SegmentCosts((1, ), ((10., ), ))
    for load in (0.3, 0.7):
        found = simulate(costs, [1.], 100 * load, images=30_000, most=1)
        expected = 10 + 10 * load / (2 * (1 - load))
        assert found.milliseconds.mean() == pytest.approx(expected, rel=0.05)
        assert found.busy == pytest.approx(load, rel=0.03)


def test_nobody_is_lost_and_batches_fill_under_load():
    quiet = simulate(COSTS, SHARES, 5, images=2000, most=8)
    busy = simulate(COSTS, SHARES, 250, images=2000, most=8)
    assert len(quiet.milliseconds) == len(busy.milliseconds) == 2000
    assert quiet.milliseconds.min() == pytest.approx(13)
    assert busy.mean_batch[3] > 2 * quiet.mean_batch[3]


def test_refilled_batches_hold_more():
    limit = 5 * simulate(COSTS, SHARES, 1, images=500).milliseconds.mean()

    def hold(staged):
        return capacity(
            lambda rate: simulate(
                COSTS, SHARES, rate, images=4000, most=8, staged=staged).p99,
            limit, 10, 200, 7)

    def backlog(staged):
        return simulate(
            COSTS, SHARES, 1e6, images=2000, most=8,
            staged=staged).milliseconds.max()

    assert hold(True) > 1.05 * hold(False)
    assert backlog(False) > 1.4 * backlog(True)


def test_more_replicas_hold_more():
    few = simulate(COSTS, SHARES, 100, 1, 4000, 8)
    many = simulate(COSTS, SHARES, 1000, 10, 4000, 8)
    assert many.p99 < 1.2 * few.p99


@pytest.mark.parametrize('arguments, message', [
    (((.5, .5), 10.), 'need 4 shares'),
    ((SHARES, 0.), 'must be positive'),
    ((SHARES, 1., 0), 'must be positive'),
])
def test_refuses_what_does_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        simulate(COSTS, *arguments)
