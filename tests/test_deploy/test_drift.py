# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Drift is noticed, and seldom where there is none."""
import logging
import math

import numpy as np
import pytest

from mmdynperceiver.deploy.drift import KEPT, DriftMonitor


def first_alarm(monitor, risk, number, seed):
    """Checked images up to the first alarm; None without."""
    losses = np.random.default_rng(seed).random(number) < risk
    for count, lost in enumerate(losses, 1):
        if monitor.observe([lost]):
            return count
    return None


def test_wealth_by_hand():
    bets = DriftMonitor(.1, false_alarms=.01).bets['differ']
    assert bets.limit == 200
    # At most 1.25 to 5 times as often, or 0.55: six bettors with 1/12 each.
    said = [.125, .15, .2, .3, .5, .55]
    wealth = [1 / 12] * 6
    for lost in (1, 0, 1):
        wealth = [
            w * (p / .1 if lost else (1 - p) / .9)
            for w, p in zip(wealth, said)
        ]
        assert bets.bet(bool(lost)) == pytest.approx(sum(wealth))


def test_false_alarms_are_as_rare_as_stated():
    """Streams at the very edge of what is certified."""
    streams, wrong = 200, 0
    for seed in range(streams):
        wrong += first_alarm(
            DriftMonitor(.05, false_alarms=.1), .05, 500, seed) is not None
    assert wrong / streams <= .1 + 2 * math.sqrt(.1 * .9 / streams)


def test_drift_is_noticed_even_after_a_long_time():
    for calm in (0, 3000):
        found = []
        for seed in range(10):
            monitor = DriftMonitor(.02)
            assert first_alarm(monitor, .01, calm, seed) is None
            found.append(first_alarm(monitor, .2, 400, seed + 100))
        assert None not in found and np.mean(found) < 100
    assert len(monitor.bets['differ']._wealth) <= KEPT


def test_interval_holds_at_all_times():
    """The confidence sequence misses the risk in few streams."""
    missed = 0
    for seed in range(40):
        monitor = DriftMonitor(.9)
        losses = np.random.default_rng(seed).random(300) < .1
        for start in range(0, 300, 20):
            monitor.observe(losses[start:start + 20])
            low, high = monitor.bets['differ'].interval(.2)
            if not low <= .1 <= high:
                missed += 1
                break
    assert missed <= 40 * .2
    assert high - low < .2


def test_falls_back_step_by_step(caplog):
    monitor = DriftMonitor.of_certificate(
        dict(risk='disagreement', max_risk=.01, safer=[[.8], [.9]]),
        fall_back=True)
    found = []
    with caplog.at_level(logging.WARNING):
        for _ in range(60):
            alarm = monitor.observe([True])
            if alarm:
                found.append(alarm['thresholds'])
    assert found[:3] == [[.8], [.9], None]
    assert 'have another class at the last exit' in caplog.text
    status = monitor.status()
    assert len(status['alarms']) == len(found)
    # Each later alarm needs more evidence.
    assert monitor.bets['differ'].limit == 2**(1 + len(found)) / .01


@pytest.mark.parametrize('safer', [(), ([.8], [.9])])
def test_the_rest_of_a_batch_counts_unless_thresholds_changed(safer):
    monitor = DriftMonitor(.01, safer=safer)
    alarm = monitor.observe([True] * 60)
    told = sum(found['counted'] for found in monitor.alarms)
    left = monitor.bets['differ'].counted
    if safer:
        assert alarm['thresholds'] == [.8] and len(monitor.alarms) == 1
        assert left == 0 < told < 60
    else:
        assert len(monitor.alarms) > 2 and told + left == 60


def test_images_that_run_deeper_are_noticed():
    certificate = dict(risk='disagreement', max_risk=.02, deep_share=.3)
    monitor = DriftMonitor.of_certificate(
        dict(certificate, safer=[[.9]]), fall_back=True)
    rng = np.random.default_rng(0)
    assert monitor.observe([], rng.random(1000) < .28) is None
    alarm = monitor.observe([], rng.random(300) < .6)
    assert (alarm['kind'], alarm['thresholds']) == ('deep', None)
    assert monitor.safer == [[.9]] and alarm['seen'] < 1100
    assert '0 of 0 checked images' in monitor.summary()[1]
    # A certificate under which all may run deep.
    certificate['deep_share'] = 1.
    assert list(DriftMonitor.of_certificate(certificate).bets) == ['differ']


@pytest.mark.parametrize('settings, message', [
    (dict(max_risk=0), 'max_risk must be between'),
    (dict(max_risk=.1, share=0), 'share must be between'),
    (dict(max_risk=.1, false_alarms=1), 'false_alarms must be between'),
    (dict(max_risk=.1, deep_share=1.5), 'deep_share must be between'),
])
def test_refuses(settings, message):
    with pytest.raises(ValueError, match=message):
        DriftMonitor(**settings)


@pytest.mark.parametrize(
    'certificate', [None, {}, dict(risk='accuracy-gap', max_risk=.1)])
def test_needs_a_certificate(certificate):
    with pytest.raises(ValueError, match='nothing to watch: calibrate'):
        DriftMonitor.of_certificate(certificate)


@pytest.mark.parametrize('fall_back', [False, True])
def test_a_runner_watches_itself(resnet, batch, spread_thresholds, fall_back):
    from mmdynperceiver.deploy import Runner
    pytest.importorskip('onnxruntime')
    thresholds = spread_thresholds(resnet.net, batch)
    runner = Runner.load(resnet.folder, threads=1, thresholds=thresholds)
    expected = runner.predict(batch)
    last = runner.all_exits(batch)[-1].argmax(-1)
    differ = int((expected.logits.argmax(-1) != last).sum())
    runner.monitor = DriftMonitor(.1, 1., 1e-6, [(2., ) * 3] if fall_back else
                                  ())
    found = runner.predict(batch)
    # What an image gets does not depend on being checked.
    np.testing.assert_array_equal(found.exit_index, expected.exit_index)
    np.testing.assert_allclose(found.logits, expected.logits)
    status = runner.monitor.status()
    assert status['differ']['seen'] == len(batch)
    assert status['differ']['counted'] == differ > 0
    for _ in range(20):
        runner.predict(batch)
    assert runner.monitor.alarms
    assert (runner.policy.thresholds == (2., ) * 3) is fall_back
