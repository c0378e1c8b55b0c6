# Copyright (c) mmdynperceiver contributors. All rights reserved.
import math

import pytest
import torch

from mmdynperceiver.calibration.intervals import (mean_interval,
                                                  paired_interval,
                                                  wilson_interval)


@pytest.mark.parametrize('successes, total, wanted', [
    (0, 10, (0., 0.2775)),
    (10, 10, (0.7225, 1.)),
    (5, 10, (0.2366, 0.7634)),
    (1881, 2000, (0.9293, 0.9500)),
])
def test_wilson_by_published_values(successes, total, wanted):
    # As in Newcombe (1998) and any calculator of score intervals.
    assert wilson_interval(successes, total) == pytest.approx(wanted, abs=2e-4)


def test_wilson_covers_as_often_as_it_says():
    rng = torch.Generator().manual_seed(0)
    for share in (0.03, 0.5, 0.94):
        hits = (torch.rand(4000, 60, generator=rng) < share).sum(1).tolist()
        ends = [wilson_interval(count, 60) for count in hits]
        covered = sum(low <= share <= high for low, high in ends) / len(ends)
        assert covered == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize('successes, total', [(0, 0), (3, 2), (-1, 2),
                                              (math.nan, 2)])
def test_wilson_needs_counts(successes, total):
    with pytest.raises(ValueError, match=f'got {successes} of {total}'):
        wilson_interval(successes, total)


def test_mean_interval():
    low, high = mean_interval(torch.tensor([0., 0., 1., 1.]))
    # Standard deviation 0.5774 of four: standard error 0.2887.
    assert (low, high) == pytest.approx((0.5 - 0.5658, 0.5 + 0.5658), abs=1e-3)
    assert mean_interval([2., 2.]) == (2., 2.)
    assert mean_interval([2.]) == (-math.inf, math.inf)
    with pytest.raises(ValueError, match=r'got the shape \(0,\)'):
        mean_interval([])


def test_paired_by_hand():
    # (30 - 10) / 102, and the root of (41 / 102 - 0.1961^2) / 102.
    low, high = paired_interval(30, 10, 100)
    assert (low, high) == pytest.approx((0.0792, 0.3130), abs=5e-4)
    assert paired_interval(10, 30, 100) == pytest.approx((-high, -low))
    # Nothing differs: few samples still leave doubt.
    few, many = (paired_interval(0, 0, size)[1] for size in (6, 2000))
    assert 0.2 < few < 0.3 and 0 < many < 0.002
    assert paired_interval(1, 0, 1) == (pytest.approx(-0.5101, abs=1e-3), 1.)


def test_paired_covers_as_often_as_it_says():
    rng = torch.Generator().manual_seed(0)
    draws = torch.rand(4000, 80, generator=rng)
    gained, lost = (draws < 0.10).sum(1), (draws > 0.96).sum(1)
    ends = [paired_interval(int(a), int(b), 80) for a, b in zip(gained, lost)]
    covered = sum(low <= 0.06 <= high for low, high in ends) / len(ends)
    assert covered == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize('counts', [(0, 0, 0), (2, 2, 3), (-1, 0, 3)])
def test_paired_needs_counts(counts):
    with pytest.raises(ValueError, match=f'{counts[0]} gained'):
        paired_interval(*counts)
