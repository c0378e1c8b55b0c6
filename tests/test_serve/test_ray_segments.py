# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Each segment in processes of its own."""
import threading

import numpy as np
import pytest

from mmdynperceiver.serve.scheduler import StagedScheduler
from mmdynperceiver.serve.segment_costs import SegmentCosts
from .clients import ask, encoded, form, serving

COSTS = SegmentCosts((1, 2), ((4., 4.), (1., 2.), (2., 2.), (8., 8.)))


def test_no_more_of_a_segment_runs_at_once_than_has_places(spread, slow):
    loaded = spread()
    segments, lock, running, most = slow(loaded.runner), threading.Lock(), \
        [0] * 4, [0] * 4
    together = threading.Event()

    class Counted:
        num_exits, image_shape = 4, segments.image_shape

        def step(self, index, tensors, held):
            with lock:
                running[index] += 1
                most[index] = max(most[index], running[index])
                if running[0] == 2:
                    together.set()
            if index == 0:
                together.wait(10)
            try:
                return segments.step(index, tensors, held)
            finally:
                with lock:
                    running[index] -= 1

    scheduler = StagedScheduler(
        Counted(), loaded.runner.policy, COSTS, 2, 64, places=[2, 1, 1, 1])
    futures = list(map(scheduler.submit, loaded.images))
    served = [future.result(30) for future in futures]
    scheduler.close()
    assert scheduler.workers == 5 and most == [2, 1, 1, 1]
    expected = loaded.runner.predict(loaded.images)
    assert [s.exit_index for s in served] == list(expected.exit_index)
    # Two places answer 4 ms / 2 images twice as fast; the last segment, which
    # 1 of 4 images reach, takes 8 ms for two of them.
    assert scheduler.spacing((.25, .25, .25, .25)) == pytest.approx(1)
    assert scheduler.spacing((0, 0, 0, 1)) == pytest.approx(4)


def test_places_are_positive(spread):
    with pytest.raises(ValueError, match='places must be at least 1, got 0'):
        StagedScheduler(spread().runner, None, COSTS, places=[1, 0, 1, 1])


def test_segments_in_deployments_answer_as_the_runner_does(spread, resnet):
    for module in ('fastapi', 'python_multipart', 'ray'):
        pytest.importorskip(module)
    runner = spread().runner
    pixels = np.random.default_rng(5).integers(0, 255, (12, 6, 5, 3))
    pictures = [encoded(p.repeat(10, 0).repeat(10, 1)) for p in pixels]
    thresholds = ('--thresholds', *runner.policy.thresholds)
    with serving(
            resnet.folder,
            '--segment-replicas',
            1,
            1,
            1,
            1,
            '--threads',
            1,
            *thresholds,
            seconds=300) as (port, _):
        status, answer = ask(port, '/v1/classify', *form(pictures))
    assert status == 200
    for found, expected in zip(answer['images'], runner(pictures)):
        assert found['exit'] == expected.exit_index
        assert found['label'] == expected.label
        assert found['score'] == pytest.approx(expected.score, abs=1e-3)
