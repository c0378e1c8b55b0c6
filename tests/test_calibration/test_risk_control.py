# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Certificates hold on fresh samples, and their numbers are the oracles'."""
import math

import pytest
import torch

from mmdynperceiver.calibration import risk_control
from mmdynperceiver.calibration.outcomes import ExitOutcomes
from mmdynperceiver.calibration.p_values import (betting_p_value,
                                                 binomial_p_value)


def test_losses_by_hand():
    # Three exits, four samples; answers of the last are 0, 1, 2, 3.
    confidences = torch.tensor([[.9, .9, .1, .1], [.9, .9, .9, .1],
                                [1., 1., 1., 1.]])
    answers = torch.tensor([[0, 9, 9, 9], [0, 1, 9, 9], [0, 1, 2, 3]])
    path = [(2., 2.), (2., .5), (.5, .5)]
    losses = risk_control.early_exit_losses(confidences, answers, path)
    assert losses.tolist() == [[0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 1, 0]]
    # The last exit is wrong on the third sample, the early ones are right.
    labels = torch.tensor([0, 1, 9, 3])
    gaps = risk_control.early_exit_losses(confidences, answers, path,
                                          'accuracy-gap', labels)
    assert gaps.tolist() == [[0, 0, 0, 0], [0, 0, -1, 0], [0, 1, -1, 0]]


def test_losses_of_a_detector_by_hand():
    utility = torch.tensor([[-.5, -3., -1.], [-.4, -.5, -1.5]])
    losses = risk_control.early_exit_losses(
        torch.tensor([[.9, .9, .9], [1, 1, 1]]), utility, [(.5, )], 'loss-gap')
    torch.testing.assert_close(losses, torch.tensor([[.1, 1, -.5]]).double())


@pytest.mark.parametrize('losses, samples, risk', [(0, 230, .01), (3, 50, .1),
                                                   (40, 5000, .01),
                                                   (600, 50000, .0125)])
def test_binomial_tail_is_that_of_scipy(losses, samples, risk):
    stats = pytest.importorskip('scipy.stats')
    assert binomial_p_value(losses, samples, risk) == pytest.approx(
        stats.binom.cdf(losses, samples, risk), rel=1e-6)


def test_fixed_sequence_stops_at_the_first_failure():
    # Of 300 samples 0, 9 and 0 lose; P(Bin(300, 2 %) <= 9) is far above 10 %.
    losses = torch.zeros(3, 300)
    losses[1, :9] = 1
    found = risk_control.certify(losses, .02, .9)
    assert found.index == 0
    assert found.certificate['p_value'] == pytest.approx(.98**300)
    assert found.certificate['observed'] == 0


def test_expectation_by_hand():
    # (sum + 1) / (N + 1) with N = 99: 0.01, 0.03, 0.05; the fourth point is
    # raised to the third's losses.
    losses = torch.zeros(4, 99)
    losses[1, :2] = 1
    losses[2, 2:4] = 1
    found = risk_control.certify(losses, .05)
    assert found.index == 3
    assert found.certificate['bound'] == pytest.approx(.05)
    assert risk_control.certify(losses, .03).index == 1


@pytest.mark.parametrize('certainty, needed', [(.9, 230), (None, 99)])
def test_too_few_images_and_how_many_would_do(certainty, needed):
    # log(.1) / log(.99) = 229.1; (1 - .01) / .01 = 99.
    assert risk_control.images_needed(0., .01, certainty) == needed
    with pytest.raises(
            risk_control.NotCertifiedError, match=f'about {needed} images'):
        risk_control.certify(torch.zeros(2, needed - 1), .01, certainty)
    assert risk_control.certify(torch.zeros(2, needed), .01,
                                certainty).index == 1
    assert risk_control.images_needed(.02, .01, certainty) is None


@pytest.mark.parametrize('settings, message', [
    (dict(max_risk=0.), 'max_risk must be between 0 and 1'),
    (dict(max_risk=.1, certainty=90), 'certainty must be between 0 and 1'),
    (dict(max_risk=.1, risk='loss'), 'risk must be one of'),
])
def test_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        risk_control.certify(torch.zeros(1, 100), **settings)


def test_losses_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r'in \[0, 1\]'):
        risk_control.certify(torch.full((1, 100), -1.), .1, .9)
    with pytest.raises(ValueError, match='needs labels'):
        risk_control.early_exit_losses(
            torch.ones(2, 3), torch.ones(2, 3), [(1., )], 'accuracy-gap')


@pytest.mark.parametrize('risk', ['disagreement', 'accuracy-gap'])
def test_promise_holds_on_fresh_samples(risk):
    """At the very edge of the risk, at most one certificate in ten is off.

    The path has the risks 0.5, 1 and 1.5 times the largest; a certificate is
    wrong if it reaches the third point, or the second, whose risk is met
    exactly but by a hair.
    """
    generator = torch.Generator().manual_seed(0)
    max_risk, certainty, trials, samples = .05, .9, 400, 1000
    wrong = certified = 0
    for _ in range(trials):
        draws = torch.rand(samples, generator=generator)
        rows = []
        for share in (.5, 1.001, 1.5):
            risks = share * max_risk
            row = (draws < risks).double()
            if risk == 'accuracy-gap':  # as many lost again, and won
                row = (draws < risks + .02).double() - (draws > .98).double()
            rows.append(row)
        try:
            index = risk_control.certify(
                torch.stack(rows), max_risk, certainty, risk).index
        except risk_control.NotCertifiedError:
            continue
        certified += 1
        wrong += index > 0
    allowed = 1 - certainty
    assert wrong / trials <= allowed + 2 * math.sqrt(allowed / trials)
    assert certified / trials > .5


def test_bets_one_by_one():
    """Each bet by what came before, as a gambler would place it."""
    losses, wealth, most = [0, 1, 0, -1, 0, 0, 1, 0] * 40, 1., 1.
    mean, square, seen = .05, .25, 0  # the guesses: the risk, (high - low)²/16
    for loss in losses:
        bet = math.sqrt(2 * math.log(10) / (len(losses) * square / (seen + 1)))
        wealth *= 1 + min(bet, .75 / .95) * (.05 - loss)
        most, seen = max(most, wealth), seen + 1
        mean += (loss - mean) / (seen + 1)
        square += (loss - mean)**2
    found = betting_p_value(torch.tensor(losses), .05)
    assert found == pytest.approx(1 / most) and found < 1


def test_bets_use_how_rarely_samples_lose():
    losses = torch.zeros(2500, dtype=torch.float64)
    losses[::400], losses[7::400] = 1, -1
    p_value = betting_p_value(losses, .01)
    # Hoeffding by the range alone: exp(-2 * 2500 * (.01 / 2)^2) = 0.88.
    assert p_value < .1
    # A mean at the risk cannot win.
    losses = torch.zeros(2500, dtype=torch.float64)
    losses[::100] = 1
    assert betting_p_value(losses, .01) > .1


def test_halves_are_whole_and_always_the_same():
    solve, certifies = risk_control.split_held_out(101)
    assert len(solve) == 50 and len(certifies) == 51
    assert sorted(solve.tolist() + certifies.tolist()) == list(range(101))
    assert risk_control.split_held_out(101)[0].equal(solve)


def test_begins_still_safer_than_what_a_search_finds():
    """Nobody above 0.5 loses on the half that is solved on, but on the other
    all up to 0.6 do."""
    torch.manual_seed(0)
    conf, labels = torch.rand(2, 2000), torch.zeros(2000, dtype=torch.long)
    conf[1] = 1
    answers = labels.repeat(2, 1)
    solve, certifies = risk_control.split_held_out(2000)
    answers[0, solve] = (conf[0, solve] < .5).long()
    answers[0, certifies] = (conf[0, certifies] < .6).long()
    outcomes = ExitOutcomes(conf, answers == labels, (1., 2.))
    thresholds, found = risk_control.solve_certified(outcomes, answers, .02,
                                                     .9)
    # Of the upper half 1/8 more leave at each step: above 0.625.
    assert thresholds[0] == pytest.approx(.625, abs=.02)
    assert found['observed'] == 0
    # From the last of the points before on.
    assert [row[0] for row in found['safer']
            ] == pytest.approx([.6875, .75, .8125, .875], abs=.04)
    with pytest.raises(risk_control.NotCertifiedError):
        risk_control.solve_certified(outcomes, answers, .02)


@pytest.mark.parametrize('risk', ['disagreement', 'accuracy-gap'])
def test_from_logits_to_a_promise_kept(risk):
    """Two exits of which the first is unsure where it differs."""

    def draw(number):
        conf = torch.rand(2, number)
        labels = torch.randint(9, (number, ))
        answers = labels.repeat(2, 1)
        answers[0, torch.rand(number) > conf[0]] = 9
        right = answers == labels
        return ExitOutcomes(conf, right, (1., 2.)), answers, labels

    torch.manual_seed(0)
    outcomes, answers, labels = draw(4000)
    thresholds, found = risk_control.solve_certified(outcomes, answers, .05,
                                                     .9, risk, labels)
    assert found['num_images'] == 2000 and found['p_value'] <= .1
    # What is safer by the held-out samples costs more.
    costs = [outcomes.evaluate(point).cost for point in found['safer']]
    assert costs == sorted(costs) and len(costs) == 4
    assert outcomes.evaluate(thresholds).cost < costs[0]
    outcomes, answers, labels = draw(50000)
    fresh = risk_control.early_exit_losses(outcomes.confidence, answers,
                                           [thresholds], risk, labels).mean()
    # Leaving above t loses (1 - t)^2 / 2; 5 % is at t = 0.68.
    assert .02 < fresh <= .05
    assert thresholds[0] == pytest.approx(.68, abs=.1)
    with pytest.raises(
            risk_control.NotCertifiedError, match='images that certify'):
        outcomes, answers, labels = draw(100)
        risk_control.solve_certified(outcomes, answers, .001, .9, risk, labels)
