# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What exits bring, shares of the sweep, and how good confidences are."""
import math

import pytest
import torch
from torch.nn import functional as F

from mmdynperceiver.calibration.confidence import (area_under_curve,
                                                   expected_calibration_error,
                                                   failure_auroc,
                                                   fit_temperature)
from mmdynperceiver.calibration.outcomes import ExitOutcomes
from mmdynperceiver.calibration.share_solver import (paper_shares,
                                                     solve_by_shares)
from mmdynperceiver.calibration.threshold_search import ThresholdSearch
from mmdynperceiver.core import select_exits
from mmdynperceiver.core.criteria import CHUNK, CRITERIA, confidences


def random_logits(num_samples=400, num_classes=5):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(num_samples, num_classes, generator=generator) * (k + 1)
        for k in range(4)
    ]


def test_sweep_has_33_points_from_cheap_to_expensive():
    sweep = paper_shares()
    assert len(sweep) == 33
    assert all(sum(shares) == pytest.approx(1) for shares in sweep)
    depths = [sum(k * s for k, s in enumerate(shares)) for shares in sweep]
    assert depths == sorted(depths)


def test_one_point_of_the_sweep_by_hand():
    # p = 1: four shares of 1/4. First exit 0.2125, the rest 0.2625 each;
    # second unchanged; third halved, the last takes what is left.
    assert paper_shares()[17 - 1] == pytest.approx(
        (0.2125, 0.2625, 0.13125, 0.39375))


def test_shares_are_met():
    logits = random_logits()
    shares = (0.4, 0.3, 0.2, 0.1)
    thresholds = solve_by_shares(confidences(logits), shares)
    index = select_exits(logits, thresholds).exit_index
    assert torch.bincount(index).tolist() == [160, 120, 80, 40]


def test_threshold_is_the_last_confidence_taken():

    def two_class(*probabilities):
        p = torch.tensor(probabilities)
        return torch.stack([p.log(), (1 - p).log()], 1)

    logits = [two_class(0.9, 0.8, 0.7, 0.6)] * 4
    thresholds = solve_by_shares(confidences(logits), (0.5, 0.25, 0, 0.25))
    # A hair below it, so that rounding does not decide.
    assert thresholds == pytest.approx((0.8, 0.7, 2), abs=2e-5)
    assert thresholds[0] < 0.8 and thresholds[1] < 0.7


def test_evaluate_by_hand():
    right, wrong = torch.tensor([[9., 0.]]), torch.tensor([[0., 9.]])
    unsure = torch.tensor([[0.1, 0.]])
    logits = [
        torch.cat([right, unsure, wrong]),
        torch.cat([right, right, right]),
        torch.cat([right, right, right]),
        torch.cat([right, right, right])
    ]
    utility = torch.stack([x.argmax(1) == 0 for x in logits])
    outcomes = ExitOutcomes(confidences(logits), utility, (1, 4, 5, 6))
    outcome = outcomes.evaluate((0.9, 0.9, 0.9))
    assert outcome.utility == pytest.approx(2 / 3)
    assert outcome.shares == pytest.approx((2 / 3, 1 / 3, 0, 0))
    assert outcome.cost == pytest.approx(2)
    assert [o.utility
            for o in outcomes.static()] == pytest.approx([2 / 3, 1, 1, 1])
    assert outcomes.measure == 'accuracy'
    losses = ExitOutcomes(confidences(logits), -utility.float(), (1, 4, 5, 6))
    assert losses.measure == 'utility'
    assert losses.evaluate((0.9, 0.9, 0.9)).utility == -outcome.utility


@pytest.mark.parametrize('shares', [(0.5, 0.5), (0.5, 0.5, 0.5, 0.5),
                                    (1.5, -0.5, 0, 0)])
def test_wrong_shares(shares):
    with pytest.raises(ValueError, match='sum to 1'):
        solve_by_shares(confidences(random_logits()), shares)


def test_logits_with_nan_or_none():
    logits = random_logits()
    logits[2][0, 0] = float('nan')
    with pytest.raises(ValueError, match='NaN'):
        solve_by_shares(confidences(logits), (0.25, ) * 4)
    with pytest.raises(ValueError, match='0 samples'):
        solve_by_shares(torch.empty(4, 0), (0.25, ) * 4)


@pytest.mark.parametrize('criterion', CRITERIA)
def test_held_out_is_what_replay_sees(criterion):
    logits = random_logits(CHUNK + 30)
    labels = torch.arange(CHUNK + 30) % 5
    temperature = (1, 2, 0.5, 1)
    held_out = ExitOutcomes.of(logits, labels, (1, 2, 4, 5), criterion,
                               temperature)
    assert torch.equal(held_out.confidence,
                       confidences(logits, criterion, temperature))
    assert torch.equal(held_out.utility[2], logits[2].argmax(1) == labels)
    thresholds = ThresholdSearch(held_out).for_budget(2.5)
    expected = held_out.evaluate(thresholds)
    out = select_exits(logits, thresholds, criterion, temperature)
    counts = torch.bincount(out.exit_index, minlength=4)
    assert expected.shares == tuple(count / len(labels)
                                    for count in counts.tolist())
    right = int((out.logits.argmax(1) == labels).sum())
    assert expected.utility == right / len(labels)


LABELS = torch.arange(400) % 5
COSTS = (1, 2, 4, 5)


def test_held_out_as_arrays():
    logits = [torch.randn(6, 3) for _ in range(4)]
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    found = ExitOutcomes.of([x.numpy() for x in logits], labels.numpy(), COSTS)
    expected = ExitOutcomes.of(logits, labels, COSTS)
    assert torch.equal(found.confidence, expected.confidence)
    assert torch.equal(found.utility, expected.utility)


@pytest.mark.parametrize('labels, message', [
    (torch.zeros(400, dtype=torch.long), 'all 400 held-out .* of class 0'),
    (LABELS + 1, '0 to 4.* got 1 to 5'),
    (LABELS[1:], r'labels \(N,\), got .*\(399,\)'),
])
def test_held_out_refuses_labels(labels, message):
    with pytest.raises(ValueError, match=message):
        ExitOutcomes.of(random_logits(), labels, COSTS)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_held_out_refuses_logits(value):
    logits = random_logits()
    with pytest.raises(ValueError, match='at least two exits, got 1'):
        ExitOutcomes.of(logits[:1], LABELS, COSTS[:1])
    with pytest.raises(ValueError, match='0 samples'):
        ExitOutcomes.of([torch.empty(0, 5)] * 4, LABELS[:0], COSTS)
    logits[2][7, 1] = value
    with pytest.raises(ValueError, match='NaN or infinity at exit 2'):
        ExitOutcomes.of(logits, LABELS, COSTS)
    with pytest.raises(ValueError, match='NaN or infinity'):
        fit_temperature(logits[2], LABELS)


def test_random_exit_by_hand():
    right = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]]).bool()
    held_out = ExitOutcomes(torch.rand(3, 4), right, (1, 2, 6))
    got = held_out.at_random((0.5, 0.25, 0.25))
    assert got.utility == pytest.approx(0.5 / 4 + 0.25 / 2 + 0.25)
    assert got.cost == pytest.approx(0.5 + 0.5 + 1.5)
    with pytest.raises(ValueError, match='sum to 1'):
        held_out.at_random((0.5, 0.5, 0.5))


@pytest.mark.parametrize('true_temperature', [0.2, 1, 4])
def test_temperature_is_found(true_temperature):
    logits = torch.randn(20000, 3) * 2
    labels = torch.multinomial(logits.softmax(1), 1).squeeze(1)
    wrong = logits * true_temperature
    found = fit_temperature(wrong, labels)
    assert found == pytest.approx(true_temperature, rel=0.05)

    def loss(temperature):
        return F.cross_entropy(wrong.double() / temperature, labels).item()

    assert loss(found) <= loss(true_temperature)
    # It is the minimum.
    assert loss(found) < min(loss(found * 1.01), loss(found / 1.01))


def test_temperature_of_a_perfect_and_of_a_useless_exit():
    labels = torch.arange(100) % 2
    logits = F.one_hot(labels, 2).float()
    assert 1 / 50 <= fit_temperature(logits, labels) < 0.05
    assert fit_temperature(-logits, labels) == pytest.approx(50, rel=1e-3)
    # A class that cannot be does not spoil it.
    logits = F.pad(torch.randn(100, 2), (0, 1), value=-math.inf)
    assert math.isfinite(fit_temperature(logits, labels))


def test_calibration_error_by_hand():
    # Bins of a half: 0.5 and 0.3 with one of two right, 1 and 0.9 with both
    # right. |0.8 - 1| / 4 + |1.9 - 2| / 4.
    conf = torch.tensor([0.5, 0.3, 1., 0.9])
    right = torch.tensor([True, False, True, True])
    assert expected_calibration_error(
        conf, right, bins=2) == pytest.approx(0.05 + 0.025)
    assert expected_calibration_error(right.float(), right) == 0


def test_auroc_by_hand():
    conf = torch.tensor([0.9, 0.8, 0.8, 0.1])
    right = torch.tensor([True, True, False, False])
    # Pairs of right and wrong: 0.9 > 0.8, 0.9 > 0.1, 0.8 = 0.8, 0.8 > 0.1.
    assert failure_auroc(conf, right) == pytest.approx(3.5 / 4)
    assert failure_auroc(conf, ~right) == pytest.approx(0.5 / 4)
    assert math.isnan(failure_auroc(conf, torch.ones(4).bool()))


def test_area_by_hand():
    # Trapezoids of 1 and 2 wide: (0.5 + 0.7) / 2 and 2 * (0.7 + 0.9) / 2.
    area = area_under_curve([2, 1, 4], [0.7, 0.5, 0.9])
    assert area == pytest.approx((0.6 + 1.6) / 3)
    with pytest.raises(ValueError, match='two points'):
        area_under_curve([1, 1], [0.5, 0.5])
