# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Thresholds from held-out confidences."""
import pytest
import torch

from mmdynperceiver.core import (evaluate_thresholds, paper_shares,
                                 select_exits, solve_by_shares)


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
    thresholds = solve_by_shares(logits, shares)
    index = select_exits(logits, thresholds).exit_index
    assert torch.bincount(index).tolist() == [160, 120, 80, 40]


def test_threshold_is_the_last_confidence_taken():

    def two_class(*probabilities):
        p = torch.tensor(probabilities)
        return torch.stack([p.log(), (1 - p).log()], 1)

    logits = [two_class(0.9, 0.8, 0.7, 0.6)] * 4
    thresholds = solve_by_shares(logits, (0.5, 0.25, 0, 0.25))
    # A hair below it, so that rounding does not decide.
    assert thresholds == pytest.approx((0.8, 0.7, 2), abs=2e-5)
    assert thresholds[0] < 0.8 and thresholds[1] < 0.7


def test_evaluate_thresholds_by_hand():
    right, wrong = torch.tensor([[9., 0.]]), torch.tensor([[0., 9.]])
    unsure = torch.tensor([[0.1, 0.]])
    logits = [
        torch.cat([right, unsure, wrong]),
        torch.cat([right, right, right]),
        torch.cat([right, right, right]),
        torch.cat([right, right, right])
    ]
    outcome = evaluate_thresholds(logits, torch.zeros(3, dtype=torch.long),
                                  (1, 4, 5, 6), (0.9, 0.9, 0.9))
    assert outcome.accuracy == pytest.approx(2 / 3)
    assert outcome.shares == pytest.approx((2 / 3, 1 / 3, 0, 0))
    assert outcome.macs == pytest.approx(2)


@pytest.mark.parametrize('shares', [(0.5, 0.5), (0.5, 0.5, 0.5, 0.5),
                                    (1.5, -0.5, 0, 0)])
def test_wrong_shares(shares):
    with pytest.raises(ValueError, match='sum to 1'):
        solve_by_shares(random_logits(), shares)


def test_logits_with_nan_or_none():
    logits = random_logits()
    logits[2][0, 0] = float('nan')
    with pytest.raises(ValueError, match='NaN'):
        solve_by_shares(logits, (0.25, ) * 4)
    with pytest.raises(ValueError, match='0 samples'):
        solve_by_shares([torch.empty(0, 5)] * 4, (0.25, ) * 4)
