# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Learned stopping, against brute force where that can be done."""
import numpy as np
import pytest
import torch

from mmdynperceiver.calibration.exit_logits import ExitLogits
from mmdynperceiver.calibration.goals import Goal
from mmdynperceiver.calibration.learned_stopping import (LEARNERS, JeiDnnGates,
                                                         LearnedStopping,
                                                         fit_stopping)
from mmdynperceiver.calibration.operating_points import solve_points
from mmdynperceiver.core.criteria import confidences

pytest.importorskip('sklearn')
COST = (1., 2., 4.)


def two_kinds(number=2000):
    """Samples that the first exit tells, and others that only the last does.

    An easy one has sure logits, a hard one none, so the best is to stop easy
    ones at once.
    """
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.integers(0, 3, number))
    easy = torch.from_numpy(rng.random(number) < .5)
    truth = torch.nn.functional.one_hot(labels, 3).float()
    noise = torch.from_numpy(rng.normal(size=(2, number, 3))).float()
    early = [
        torch.where(easy[:, None], 6 * truth + part, .1 * part)
        for part in noise
    ]
    return ExitLogits((*early, 9 * truth), labels, [''] * number, COST), easy


def right_of(exits):
    return torch.stack([x.argmax(1) == exits.labels for x in exits.logits])


@pytest.mark.parametrize('price', [.05, 1.])
def test_finds_the_best_rule(price):
    """Of all rules that send each kind to an exit of its own."""
    exits, easy = two_kinds()
    right = right_of(exits)
    learned = LearnedStopping(exits.logits, right, COST)
    utility, cost = learned.outcome(learned.fit(price), COST)
    worth = right.double() - price * torch.tensor(COST)[:, None] / COST[-1]
    best = sum(
        max(float(worth[k, kind].sum()) for k in range(3))
        for kind in (easy, ~easy)) / len(easy)
    assert utility - price * cost / COST[-1] >= best - .01


def test_what_is_at_stake_decides():
    """Stopping costs half of the samples a little, going on all of them."""
    exits, _ = two_kinds()
    learned = LearnedStopping(exits.logits, right_of(exits), COST)
    free, dear = learned.fit(1e-3), learned.fit(30.)
    assert learned.outcome(dear,
                           COST) == (right_of(exits)[0].double().mean(), 1)
    assert learned.outcome(free, COST)[0] > .99
    assert (learned.stops(dear) == 0).all()


def test_one_rule_for_fit_and_replay():
    exits, _ = two_kinds(300)
    stopping = fit_stopping(exits.logits, right_of(exits), COST, budget=2.)
    learned = LearnedStopping(exits.logits, right_of(exits), COST)
    conf = confidences(exits.logits, 'logistic', None, stopping)
    stops = (conf[:-1] >= .5).int().argmax(0)
    stops[(conf[:-1] < .5).all(0)] = 2
    assert stops.tolist() == learned.stops(stopping).tolist()


def test_gates_of_jei_dnn_by_hand():
    """Two classes, a cross-entropy of log(1 + e^-x) at a lead of x."""
    leads = ((0., 3., -1.), (1., 3., -2.), (4., 3., 5.))
    answers = [torch.tensor([[lead, 0.] for lead in row]) for row in leads]
    right = torch.tensor([[lead > 0 for lead in row] for row in leads])
    gates = JeiDnnGates(answers, right, COST, torch.zeros(3, dtype=torch.long))
    # Losses .693 .049 1.313; .313 .049 2.127; .018 .049 .007. For a price of
    # 0.2 the costs 1/4, 1/2 and 1 add .05, .1 and .2.
    assert gates.targets(.2).tolist() == [[False, True, False],
                                          [False, True, False]]
    # 0.5, 1 and 2: only the third sample is worth the way to the end.
    assert gates.targets(2.).tolist() == [[True, True, True],
                                          [True, True, False]]
    assert gates.fit(2.)[0] == [20, 0, 0, 0, 0, 0]


def test_a_gate_of_jei_dnn_is_the_optimum_that_scipy_finds():
    optimize = pytest.importorskip('scipy.optimize')
    exits, _ = two_kinds(300)
    gates = JeiDnnGates(exits.logits, right_of(exits), COST, exits.labels)
    found, stop = np.array(gates.fit(.5)[1]), gates.targets(.5)[1]
    conf = torch.stack([
        confidences(exits.logits, name)[1]
        for name in ('max_prob', 'margin', 'entropy')
    ]).double().numpy()
    features = -np.log(1.0001 - conf)
    scale = features.std(1)

    def loss(weights):  # with scikit-learn's penalty, of scaled features
        score = weights[0] + weights[1:4] @ features
        return np.logaddexp(0, np.where(stop, -score, score)).sum() + \
            ((weights[1:4] * scale)**2).sum() / 2

    best = optimize.minimize(loss, np.zeros(4), method='BFGS')
    assert .2 < stop.mean() < .8
    assert loss(found) <= best.fun * (1 + 1e-4)
    assert found[4:].tolist() == [0, 0]


@pytest.mark.parametrize('learner', LEARNERS)
@pytest.mark.parametrize('goal', [
    Goal(COST, budget=2.5),
    Goal(COST, min_utility=.98),
    Goal(COST, max_risk=.05, certainty=.9),
])
def test_solved_for_a_goal(goal, learner):
    exits, _ = two_kinds(600)
    point, = solve_points(exits, goal, criterion='logistic', learner=learner)
    assert point.criterion == 'logistic' and len(point.stopping) == 2
    found = point.expected
    if goal.budget:
        assert found['macs'] <= 2.5 and found['accuracy'] > .98
    else:
        assert found['accuracy'] >= .95
        assert found['macs'] < 3
    if goal.max_risk:
        assert point.certificate['num_images'] == 300
