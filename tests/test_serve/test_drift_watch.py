# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The service checks some of its images, and turns to safer points."""
import asyncio
import time

import numpy as np
import pytest

from mmdynperceiver.deploy import Policy, Runner
from mmdynperceiver.deploy.policy import confidence
from mmdynperceiver.serve.controller import Controller
from mmdynperceiver.serve.operating_curve import CurvePoint
from mmdynperceiver.serve.problems import Limits
from mmdynperceiver.serve.scheduler import StagedScheduler
from mmdynperceiver.serve.segment_costs import SegmentCosts
from .clients import encoded

pytest.importorskip('fastapi', reason='the extra "serve" is not installed')
pytest.importorskip('prometheus_client', reason='the same')

COSTS = SegmentCosts((1, 8), ((1., 1.1), ) * 4)
DEEPEST = (2., ) * 3


@pytest.fixture
def make(resnet):
    """A service that checks all images; they leave everywhere, and early
    classes are those of the last exit less often than is certified."""
    from mmdynperceiver.serve.drift_watch import DriftWatch
    from mmdynperceiver.serve.metrics import PrometheusMetrics
    from mmdynperceiver.serve.service import Recorder, Service
    runner = Runner.load(resnet.folder, threads=1)
    rng, opened = np.random.default_rng(5), []
    pictures = [
        encoded(c.repeat(10, 0).repeat(10, 1))
        for c in rng.integers(0, 255, (24, 6, 5, 3))
    ]
    logits = runner.all_exits(runner.preprocessing.batch(pictures))
    ordered = [np.sort(confidence(each)) for each in logits[:3]]
    spread = [each[11:13].mean() for each in ordered]
    runner.manifest.certificate = dict(
        risk='disagreement', max_risk=.05, safer=[DEEPEST])

    def start(thresholds=None, fall_back=True, curve=False):
        recorder = Recorder(PrometheusMetrics(), COSTS)
        scheduler = StagedScheduler(runner, Policy(4, thresholds or spread),
                                    COSTS, 8, 64, None, 1, recorder)
        controller = None
        if curve:
            points = [
                CurvePoint(Policy(4, t), a, (.25, ) * 4, a)
                for t, a in (((0., ) * 3, .5), (spread, .7), (DEEPEST, .9))
            ]
            controller = Controller(
                scheduler, recorder.load, points, 1e4, start=False)
        watch = DriftWatch(runner, scheduler, recorder.metrics, 1., fall_back,
                           controller)
        service = Service(runner, scheduler, recorder, Limits(), 1, controller,
                          watch)
        opened.append(service)
        return service

    def classify(service):
        found = asyncio.run(
            service.classify([('', content) for content in pictures]))
        end = time.monotonic() + 20
        while service.scheduler.under_way:
            assert time.monotonic() < end
            time.sleep(.005)
        return [each['exit'] for each in found]

    yield start, classify
    [service.close() for service in opened]


@pytest.mark.parametrize('fall_back', [False, True])
def test_the_certificate(make, fall_back):
    from mmdynperceiver.serve.http_app import describe
    start, classify = make
    service = start(fall_back=fall_back)
    exits = classify(service)
    assert len(set(exits)) == 4
    policy = describe(service)['policy']
    monitor = describe(service)['monitor']
    alarms = monitor['alarms']
    assert alarms and alarms[0]['kind'] == 'differ'
    assert monitor['fall_back'] is fall_back and monitor['share'] == 1
    assert service.live()['drift_alarms'] == len(alarms)
    assert (tuple(policy['thresholds']) == DEEPEST) is fall_back
    assert (set(classify(service)) == {3}) is fall_back
    assert len(monitor['points']) == 1
    assert monitor['points'][0]['thresholds'] == policy['thresholds']
    # Images that run once more answer nobody, and are not counted.
    assert service.recorder.served == 48
    service.set_gauges()
    text = service.recorder.metrics.text().decode()
    assert 'mmdynperceiver_checked_total{outcome="differs"}' in text
    count = len(service.watch.alarms)
    assert f'drift_alarms_total{{kind="differ"}} {count}.0' in text
    images = sum(
        float(line.split()[-1]) for line in text.splitlines()
        if line.startswith('mmdynperceiver_images_total{'))
    assert images == 48
    assert f'mmdynperceiver_drift {service.watch.differing()}' in text


def test_points_of_a_curve_are_given_up(make):
    start, classify = make
    service = start(curve=True)
    controller = service.controller
    assert set(classify(service)) == {3} and not service.watch.alarms
    controller._move(0, 'a test')
    assert 0 in classify(service)
    # Images that arrived after the first alarm may have raised the second.
    if controller.floor == 1:
        assert controller.current == 1
        classify(service)
    assert [alarm['point'] for alarm in service.watch.alarms] == [0, 1]
    assert controller.current == 2 and set(classify(service)) == {3}
    described = controller.describe()
    assert described['floor'] == 2
    assert [change['reason'] for change in described['changes']
            ][1:] == ['point 0 is given up', 'point 1 is given up']
    service.recorder.load.pending = 10_000
    controller.look()
    assert controller.current == 2  # too much to do, and yet no cheaper
    assert 'target' in controller.refusal()
    service.recorder.load.pending = 0


def test_refuses_what_cannot_be_watched(make):
    from mmdynperceiver.serve.settings import Settings
    start, _ = make
    for settings, message in ((dict(fall_back=True), 'give monitor'), (dict(
            monitor=.1, thresholds=(1, 1, 1)), 'leave out thresholds'),
                              (dict(monitor=.1, exit=1), 'leave out exit')):
        with pytest.raises(ValueError, match=message):
            Settings('exported', **settings)
    service = start()
    service.runner.manifest.certificate = None
    with pytest.raises(ValueError, match='nothing to watch'):
        start()
