# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Thresholds for an accuracy, by hand and on samples to come."""
import pytest
import torch

from mmdynperceiver.calibration.exit_accuracy import thresholds_for_accuracy
from mmdynperceiver.calibration.outcomes import ExitOutcomes

pytest.importorskip('sklearn')


def test_isotonic_by_hand():
    # Right at 0.9, 0.8, 0.6; wrong at 0.7, 0.5: the violators 0.6 and 0.7
    # are pooled to 1/2.
    conf = torch.tensor([[.5, .6, .7, .8, .9], [1.] * 5])
    right = torch.tensor([[0, 1, 0, 1, 1], [1, 1, 1, 1, 1]], dtype=torch.bool)
    samples = ExitOutcomes(conf, right, (1, 2))
    for accuracy, threshold in ((1., .8), (.6, .8), (.5, .6), (.01, .6)):
        assert thresholds_for_accuracy(samples, accuracy) == pytest.approx(
            (threshold, ))


@pytest.mark.parametrize('accuracy', [.5, .8, .95])
def test_isotonic_is_that_of_scipy(accuracy):
    pytest.importorskip('scipy', minversion='1.12')
    from scipy import optimize
    torch.manual_seed(0)
    conf = torch.rand(3, 500).sort().values
    samples = ExitOutcomes(conf, torch.rand(3, 500) < conf, (1, 2, 3))
    for found, row, right in zip(
            thresholds_for_accuracy(samples, accuracy), conf,
            samples.utility.double().numpy()):
        fitted = optimize.isotonic_regression(right).x
        assert found == row[fitted >= accuracy - 1e-9].min().item()


@pytest.mark.parametrize('accuracy', [.8, .95])
def test_who_leaves_early_is_as_accurate_as_asked(accuracy):
    """Confidences that are too sure of themselves, squared probabilities."""
    torch.manual_seed(0)

    def draw(number):
        chance = torch.rand(2, number, dtype=torch.float64)
        return ExitOutcomes(chance.sqrt(),
                            torch.rand_like(chance) < chance, (1, 2))

    thresholds = thresholds_for_accuracy(draw(20000), accuracy)
    # Who leaves has a chance of at least the accuracy, whatever it is called.
    assert thresholds[0] == pytest.approx(accuracy**.5, abs=.03)
    fresh = draw(20000)
    leaves = fresh.confidence[0] >= thresholds[0]
    assert fresh.utility[0][leaves].double().mean() > accuracy
    assert fresh.evaluate(thresholds).shares[0] == pytest.approx(
        1 - accuracy, abs=.05)


@pytest.mark.parametrize('accuracy', [0., 94])
def test_refused(accuracy):
    samples = ExitOutcomes(torch.rand(2, 9), torch.rand(2, 9) < .5, (1, 2))
    with pytest.raises(ValueError, match=f'such as 0.94, got {accuracy}'):
        thresholds_for_accuracy(samples, accuracy)
