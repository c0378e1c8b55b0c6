# Copyright (c) mmdynperceiver contributors. All rights reserved.
import pytest
import torch

from mmdynperceiver.calibration.intervals import (paired_interval,
                                                  wilson_interval)
from mmdynperceiver.report.headline import headline


def test_by_hand():
    # Of four samples two leave at exit 0, one at exit 1 and one at exit 2.
    exit_index = torch.tensor([0, 0, 1, 2])
    right = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 1], [1, 0, 1, 1]]).bool()
    accuracy, macs, latency, early = headline(exit_index, right, (10, 20, 40),
                                              (1., 2., 3.))
    assert [f.name for f in (accuracy, macs, latency, early)
            ] == ['accuracy', 'macs', 'latency_ms', 'early_exits']
    # Right at their exits: samples 0, 1 and 3; at the last one 0, 2 and 3.
    assert (accuracy.value, accuracy.last, accuracy.difference) == (.75, .75,
                                                                    0.)
    assert accuracy.interval == wilson_interval(3, 4)
    assert accuracy.difference_interval == paired_interval(1, 1, 4)
    assert (macs.value, macs.last, macs.difference) == (20., 40., -20.)
    low, high = macs.interval
    assert 10 <= low < 20 < high <= 40
    assert macs.difference_interval == (low - 40, high - 40)
    assert (latency.value, latency.last) == (1.75, 3.)
    assert (early.value, early.last) == (.75, 0.)
    assert early.interval == wilson_interval(3, 4)


def test_intervals_narrow_with_more_samples():
    exit_index = torch.tensor([0, 1] * 10)
    right = torch.tensor([[1, 0, 0, 1] * 5, [0, 1, 1, 1] * 5]).bool()
    few = headline(exit_index, right, (10, 20))
    many = headline(exit_index.repeat(25), right.repeat(1, 25), (10, 20))
    assert len(few) == 3
    for one, other in zip(few, many):
        assert one.value == pytest.approx(other.value)
        for name in ('interval', 'difference_interval'):
            ends, narrow = getattr(one, name), getattr(other, name)
            assert narrow[1] - narrow[0] < 0.3 * (ends[1] - ends[0])


def test_a_single_sample_and_all_early():
    figures = headline(
        torch.tensor([0]), torch.tensor([[True], [True]]), (10, 20))
    accuracy, macs, early = figures
    assert macs.interval == (10., 20.) and early.value == 1.
    assert accuracy.interval[1] == 1. and accuracy.interval[0] < 0.5
