# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Overload in real time: less depth instead of late answers."""
import asyncio
import random
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from mmdynperceiver.deploy import Policy
from mmdynperceiver.serve.problems import Limits, Problem
from mmdynperceiver.serve.scheduler import StagedScheduler
from .test_simulation import COSTS, Sleeping

# Milliseconds that 99 of 100 answers shall keep. At the deepest point the
# workers answer 100 images a second, at the cheapest 400.
TARGET, DEEPEST = 600., 100.


class Images(Sleeping):
    """A number for each image, from 0 to 1: so sure has an exit to be."""

    def prepare(self, content):
        return np.full((1, 1, 1), float(content), np.float32), 0.

    def step(self, index, tensors, held):
        hardness = next(iter(tensors.values())).reshape(-1, 1)
        super().step(index, tensors, held)
        tensors['x'] = hardness.reshape(-1, 1, 1, 1)
        sure = 1 - hardness * (.9, .5, .3, .1)[index]
        odds = np.log(sure / (1 - sure))
        return np.concatenate([odds, np.zeros_like(odds)],
                              1).astype(np.float32)


@pytest.fixture
def service():
    """A service with a curve; its images have the hardness 0 to 1."""
    from mmdynperceiver.serve.controller import Controller
    from mmdynperceiver.serve.metrics import Metrics
    from mmdynperceiver.serve.operating_curve import CurvePoint
    from mmdynperceiver.serve.service import Recorder, Service

    class Found(Service):

        def _describe(self, name, job, served, top):
            return served

    segments = Images()
    segments.preprocessing = SimpleNamespace()
    points = [
        CurvePoint(Policy(4, [t] * 3), t, shares, 1 + t)
        for t, shares in ((0., (1., 0., 0., 0.)), (.75, (.28, .22, .33, .17)),
                          (1.5, (0., 0., 0., 1.)))
    ]
    recorder = Recorder(Metrics(), COSTS)
    scheduler = StagedScheduler(
        segments, points[-1].policy, COSTS, 8, 1000, observer=recorder)
    controller = Controller(scheduler, recorder.load, points, TARGET)
    service = Found(segments, scheduler, recorder, Limits(), 2, controller)
    yield service
    service.close()


async def load(service, rate, seconds):
    """Answers or problems of images that come at random moments."""
    rng, found, tasks = random.Random(2), [], []

    async def ask(hardness):
        start = loop.time()
        try:
            answer, = await service.classify([('', hardness)])
        except Problem as problem:
            answer = problem
        found.append(
            (answer, 1000 * (loop.time() - start), service.controller.current))

    loop = asyncio.get_running_loop()
    due = end = loop.time()
    end += seconds
    while due < end:
        await asyncio.sleep(max(0., due - loop.time()))
        tasks.append(asyncio.ensure_future(ask(rng.random())))
        due += rng.expovariate(rate)
    await asyncio.gather(*tasks)
    return found


def test_overload_costs_depth_and_not_time(service):
    for factor in (0.3, 2, 6):
        found = asyncio.run(load(service, factor * DEEPEST, 4))
        answers = [(a, ms) for a, ms, _ in found if not isinstance(a, Problem)]
        spent = [ms for _, ms in answers]
        served = Counter(service.point(a.policy) for a, _ in answers)
        refused = [(a, point) for a, _, point in found
                   if isinstance(a, Problem)]
        print(f'{factor} times: {len(answers)} answers at the points '
              f'{sorted(served.items())}, p50 {np.percentile(spent, 50):.0f} '
              f'and p99 {np.percentile(spent, 99):.0f} ms; '
              f'{len(refused)} refused')
        for answer, _ in answers:
            # Each by the point that it came with.
            assert answer.exit_index == 3 or answer.confidence >= \
                answer.policy.thresholds[answer.exit_index]
        assert all(p.status == 503 and point == 0 for p, point in refused)
        # A busy machine stops for seconds: tools/dev/load.py measures p99.
        assert np.median(spent) < TARGET
        if factor == 0.3:
            assert set(served) == {2} and not refused
        elif factor == 2:
            assert served[0] + served[1] > served[2]
        else:
            assert served[0] > len(answers) / 2 and refused
    assert service.controller.changes
