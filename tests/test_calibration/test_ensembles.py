# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Weights of ensembles, against weights by hand and another optimiser."""
import pytest
import torch

from mmdynperceiver.calibration.ensembles import fit_ensemble, fit_geometric
from mmdynperceiver.calibration.exit_logits import ExitLogits
from mmdynperceiver.core.ensembles import ensemble_logits
from mmdynperceiver.exit_settings import check_ensemble


def make_exits(samples=600, classes=5):
    """Exits that know more and more, with a noise of their own."""
    torch.manual_seed(0)
    labels = torch.randint(classes, (samples, ))
    truth = torch.nn.functional.one_hot(labels, classes).float()
    logits = tuple(scale * truth + 1.5 * torch.randn(samples, classes)
                   for scale in (1, 2, 3))
    return ExitLogits(logits, labels, [''] * samples, (1., 3., 4.))


def test_weights_by_hand():
    exits = make_exits(4)
    found = fit_ensemble('average', exits)
    assert found['weights'] == [[1], [1 / 4, 3 / 4], [1 / 8, 3 / 8, 4 / 8]]
    found = fit_ensemble('product', exits)
    assert found['weights'] == [[1 / 3], [1 / 3, 2 / 3], [1 / 3, 2 / 3, 1]]


def test_geometric_is_the_optimum_that_scipy_finds():
    optimize = pytest.importorskip('scipy.optimize')
    exits = make_exits()

    def loss(weights):
        total = sum(float(w) * x for w, x in zip(weights, exits.logits))
        return torch.nn.functional.cross_entropy(total, exits.labels).item()

    best = optimize.minimize(loss, [0, 0, 1], method='Nelder-Mead').x
    found = fit_geometric(exits.logits, exits.labels)
    assert loss(found) <= loss(best) + 1e-6
    assert found == pytest.approx(list(best), abs=2e-3)


def test_an_ensemble_knows_more_than_its_last_exit():
    exits = make_exits(4000)
    ensemble = check_ensemble(fit_ensemble('geometric', exits), 3)
    together = ensemble_logits(exits.logits, ensemble)[-1]
    right = [(x.argmax(1) == exits.labels).float().mean()
             for x in (exits.logits[-1], together)]
    assert right[1] > right[0] + .02


def test_nothing_to_learn_from():
    exits = make_exits(4)
    with pytest.raises(ValueError, match='NaN'):
        fit_ensemble(
            'geometric',
            exits._replace(
                logits=(*exits.logits[:2], exits.logits[2] * float('nan'))))
