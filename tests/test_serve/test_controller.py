# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Moving along a curve, against a clock that the tests set."""
import json
from types import SimpleNamespace

import pytest

from mmdynperceiver.deploy import Policy
from mmdynperceiver.serve import controller as module
from mmdynperceiver.serve.controller import (Controller, Load,
                                             image_milliseconds)
from mmdynperceiver.serve.operating_curve import (CurvePoint, load_curve,
                                                  load_point)
from mmdynperceiver.serve.segment_costs import SegmentCosts

# Each segment takes 2 ms an image, so the points cost 2, 4 and 8 ms.
COSTS = SegmentCosts((1, ), ((2., ), ) * 4)
POINTS = [
    CurvePoint(Policy(4, thresholds), accuracy, shares, macs)
    for thresholds, accuracy, shares, macs in (((0, 0, 0), .7, (1., 0., 0.,
                                                                0.),
                                                1.), ((.5, .5, 2), .8,
                                                      (0.5, 0.25, 0, .25), 2.),
                                               ((2, 2, 2), .9, (0., 0., 0.,
                                                                1.), 4.))
]


@pytest.fixture
def clock(monkeypatch):
    """The time, which passes when it is told to."""
    clock = SimpleNamespace(now=1000.)
    monkeypatch.setattr(module.time, 'monotonic', lambda: clock.now)
    return clock


@pytest.fixture
def make(clock):
    """A controller of a target of 100 ms, and what passes time for it."""
    load = Load()
    scheduler = SimpleNamespace(
        costs=COSTS,
        sizes=[1] * 4,
        policy=None,
        spacing=lambda shares: image_milliseconds(COSTS, [1] * 4, shares))
    controller = Controller(scheduler, load, POINTS, 100., start=False)

    def wait(seconds, rate=0, pending=0, milliseconds=10.):
        load.pending = pending
        for _ in range(round(seconds * 10)):
            clock.now += 0.1
            load.arrived += rate // 10
            load.answered(milliseconds, 0.)
            controller.look()

    return SimpleNamespace(
        controller=controller, load=load, scheduler=scheduler, wait=wait)


def test_costs_of_the_points():
    found = [image_milliseconds(COSTS, [1] * 4, p.shares) for p in POINTS]
    assert found == [2., 4., 8.]


def test_goes_down_when_work_piles_up_and_up_again_step_by_step(make):
    assert make.scheduler.policy is POINTS[2].policy
    make.wait(1, rate=100, pending=4)
    assert make.controller.current == 2 and not make.controller.changes
    # 200 images a second: 8 ms each are too much, and 4 ms are not.
    make.wait(0.5, rate=200, pending=8)
    assert make.controller.current == 1
    assert make.scheduler.policy is POINTS[1].policy
    change, = make.controller.changes
    assert (change['before'], change['after']) == (2, 1)
    assert '64 ms of work wait' in change['reason']
    # Calm, but a better point would be too much again.
    make.wait(10, rate=100, pending=2)
    assert make.controller.current == 1
    make.wait(1.5, rate=50, pending=2)
    assert make.controller.current == 1
    make.wait(2, rate=50, pending=2)
    assert make.controller.current == 2


def test_skips_points_that_the_workers_do_not_keep_up_with(make):
    make.wait(1, rate=400, pending=7)
    assert make.controller.current == 0
    change, = make.controller.changes
    assert change['after'] == 0


def test_late_answers_count_too(make):
    make.wait(0.1, pending=1, milliseconds=150.)
    assert make.controller.current == 1


def test_waits_until_the_backlog_has_gone(make, clock):
    make.wait(0.1, rate=0, pending=8)
    assert make.controller.current == 1
    make.load.pending = 14  # 56 ms at the new point: it was admitted before
    clock.now += 0.01
    make.controller.look()
    assert make.controller.current == 1
    make.load.pending = 20  # it piles up nevertheless
    make.controller.look()
    assert make.controller.current == 0


def test_refuses_only_at_the_cheapest_point(make, clock):
    assert make.controller.refusal() is None
    make.load.pending, make.load.arrived = 20, 1
    clock.now += 1
    # It would be late at the best point, so it gets a cheaper one.
    assert make.controller.refusal() is None
    assert make.controller.current < 2
    make.load.pending = 60
    clock.now += 1
    assert 'about 120 ms more at the cheapest' in make.controller.refusal()
    assert make.controller.current == 0
    make.load.pending = 20
    assert make.controller.refusal() is None


def test_a_slower_machine_counts(make, clock):
    # The workers need twice as long as when they were measured.
    make.load.busy_ms, make.load.measured_ms = 100., 50.
    make.load.pending = 4
    assert make.controller.wait_ms() == 4 * 16


def test_a_target_that_one_image_misses_is_refused(make):
    with pytest.raises(ValueError, match='alone takes 8.0 ms'):
        Controller(make.scheduler, make.load, POINTS, 8., start=False)


def test_describes_itself(make):
    make.wait(0.1, rate=0, pending=8)
    found = make.controller.describe()
    assert found['current'] == 1 and len(found['changes']) == 1
    assert [p['accuracy'] for p in found['points']] == [.7, .8, .9]
    assert make.controller.number(POINTS[2].policy) == 2
    assert make.controller.number(None) is None
    json.dumps(found)


def point(accuracy, macs, **more):
    """A point of a file."""
    return dict(
        thresholds=[0.5] * 3,
        criterion='max_prob',
        expected=dict(accuracy=accuracy, macs=macs, shares=[.25] * 4),
        **more)


def test_curves_are_sorted_and_beaten_points_left_out(tmp_path):
    file = tmp_path / 'curve.json'
    file.write_text(
        json.dumps(
            dict(points=[
                point(.9, 5),
                point(.6, 1),
                point(.5, 2),
                point(.8, 3),
                point(.8, 4)
            ])))
    assert [p.accuracy for p in load_curve(file, 4)] == [.6, .8, .9]
    assert [p.accuracy for p in load_curve(file, 4, .7)] == [.8, .9]
    with pytest.raises(ValueError, match='the best has 0.9'):
        load_curve(file, 4, .95)
    file.write_text(json.dumps(point(.9, 5, temperature=[2.] * 4)))
    assert load_curve(file, 4)[0].policy.temperature == (2., ) * 4


def test_one_point_of_a_file(tmp_path):
    file = tmp_path / 'point.json'
    file.write_text(json.dumps(point(.9, 5, temperature=[2.] * 4)))
    assert load_point(file, 4).temperature == (2., ) * 4
    other = dict(point(.5, 1), thresholds=[.1, .2, .3])
    file.write_text(json.dumps(dict(points=[point(.9, 5), other])))
    assert load_point(f'{file}:1', 4).thresholds == (.1, .2, .3)
    with pytest.raises(ValueError, match='holds 2 .* take one by .*:0'):
        load_point(file, 4)
    with pytest.raises(ValueError, match='no operating point 2 .*holds 2'):
        load_point(f'{file}:2', 4)


@pytest.mark.parametrize('content, message', [
    ('no', 'not JSON'),
    ('[]', 'no curve'),
    ('{}', 'no curve'),
    (json.dumps(dict(points=[dict(thresholds=[1])])), "'expected'"),
    (json.dumps(point(.5, 1)), 'shares of 4 exits'),
    (json.dumps(point(.5, 1, colour='red')), "unknown field 'colour'"),
    (json.dumps(dict(points=[point(.5, 1)], p=1)), "unknown field 'p'"),
])
def test_what_is_no_curve_is_refused(tmp_path, content, message):
    file = tmp_path / 'curve.json'
    file.write_text(content)
    with pytest.raises(ValueError, match=message):
        load_curve(file, 3)
