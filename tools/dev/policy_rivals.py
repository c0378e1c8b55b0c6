# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Policies beside searched thresholds, and what a decision takes."""
import time
import timeit
from typing import Any, Dict, List, Tuple

import eenet
import numpy as np

from mmdynperceiver.calibration.exit_logits import ExitLogits
from mmdynperceiver.calibration.goals import Goal
from mmdynperceiver.calibration.operating_points import (outcomes_of,
                                                         solve_points)
from mmdynperceiver.calibration.outcomes import ExitOutcomes
from mmdynperceiver.calibration.threshold_search import ThresholdSearch
from mmdynperceiver.core.policy import leave_at
from mmdynperceiver.deploy.policy import Policy

__all__ = ['decision_times', 'rivals']

DRAWS = 1000
RIVALS: Dict[str, Dict[str, Any]] = {
    'temperature': dict(fit=True),
    'learned stopping': dict(criterion='logistic'),
    'jei-dnn': dict(criterion='logistic', learner='jei-dnn'),
    'average': dict(ensemble='average'),
    'geometric': dict(ensemble='geometric'),
    'geometric, learned stopping':
    dict(ensemble='geometric', criterion='logistic'),
    'product': dict(ensemble='product')
}


def rivals(exits: ExitLogits, tests: ExitLogits,
           budgets: List[float]) -> List[Any]:
    """Policies on test images, beside searched thresholds, paired.

    Budgets are shares of the last exit's MACs. EENet is there with the
    thresholds of its shares, and with searched ones.
    """
    rng, rows = np.random.default_rng(0), []
    draws = rng.integers(len(tests.labels), size=(DRAWS, len(tests.labels)))
    for share in budgets:
        goal = Goal(exits.macs, budget=share * exits.macs[-1])
        point = solve_points(exits, goal)[0]
        base = _brought(outcomes_of(point, tests), point.thresholds)
        row: Dict[str, Any] = dict(budget=share, thresholds=_summary(*base))
        found = {}
        for name, settings in RIVALS.items():
            point = solve_points(exits, goal, **settings)[0]
            found[name] = _brought(outcomes_of(point, tests), point.thresholds)
        scheduler = eenet.fit(exits.logits, exits.labels, exits.macs,
                              goal.budget)
        row['eenet_policy'] = scheduler._asdict()
        known, judged = (
            eenet.outcomes_of(scheduler, part.logits, part.labels, exits.macs)
            for part in (exits, tests))
        found['eenet'] = _brought(judged, scheduler.thresholds)
        found['eenet, searched'] = _brought(
            judged,
            ThresholdSearch(known).for_budget(goal.budget))
        for name, (right, macs) in found.items():
            gains = (right - base[0])[draws].mean(1)
            row[name] = dict(
                _summary(right, macs),
                gain=float((right - base[0]).mean()),
                interval=np.percentile(gains, [2.5, 97.5]).tolist())
            print(f'{share:.0%} {name}: {row[name]}', flush=True)
        rows.append(row)
    return rows


def _brought(outcomes: ExitOutcomes,
             thresholds: Any) -> Tuple[np.ndarray, np.ndarray]:
    """Whether each test image is right, and what it costs."""
    exits = leave_at(outcomes.confidence, thresholds)
    right = outcomes.utility.gather(0, exits[None])[0].double().numpy()
    return right, np.asarray(outcomes.cost)[exits.numpy()]


def _summary(right: np.ndarray, macs: np.ndarray) -> Dict[str, float]:
    return dict(accuracy=float(right.mean()), macs=float(macs.mean()))


def decision_times(exits: ExitLogits) -> Dict[str, float]:
    """Microseconds of all decisions on one image that runs to the end."""
    logits = [part[:1].numpy() for part in exits.logits]
    times = {}
    for name, settings in {'thresholds': {}, **RIVALS}.items():
        point = solve_points(exits,
                             Goal(exits.macs,
                                  budget=.6 * exits.macs[-1]), **settings)[0]
        policy = Policy(
            len(logits), [2.] * (len(logits) - 1), **point.settings)

        def decide() -> None:
            memory = None
            for index, part in enumerate(logits):
                memory = policy.decide(index, part, memory).memory

        times[name] = 1e5 * min(
            timeit.repeat(
                decide, timer=time.process_time, number=10, repeat=100))
    return times
