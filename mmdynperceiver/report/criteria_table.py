# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Which policy is best: criteria, temperatures, ensembles, learning."""
import time
import timeit
from importlib.util import find_spec
from typing import Any, Callable, NamedTuple, Sequence

import numpy as np
import torch
from torch import Tensor

from ..calibration.confidence import (area_under_curve,
                                      expected_calibration_error,
                                      failure_auroc, fit_temperature)
from ..calibration.ensembles import fit_ensemble
from ..calibration.exit_logits import ExitLogits
from ..calibration.learned_stopping import fit_stopping
from ..calibration.outcomes import ExitOutcomes
from ..calibration.threshold_search import ThresholdSearch
from ..core.criteria import CRITERIA
from ..core.ensembles import ensemble_logits
from ..deploy.policy import Policy
from ..exit_settings import ENSEMBLES

__all__ = ['SHARES', 'VARIANTS', 'CriterionRow', 'compare_criteria']

# A criterion, whether temperatures are fitted (one does not change which
# class an exit predicts), and an ensemble.
VARIANTS: list[tuple[str, bool, str | None]] = [
    *((name, fitted, None) for name in CRITERIA
      for fitted in (False, True) if not (fitted and name == 'patience')),
    *(('max_prob', False, kind) for kind in ENSEMBLES)
]
if find_spec('sklearn'):
    VARIANTS += [('logistic', False, None), ('logistic', False, 'geometric')]
# Parts of the last exit's MACs at which accuracies are told.
SHARES = (.25, .5, .75)
RESAMPLES = 1000


class CriterionRow(NamedTuple):
    """How good one policy is; what is no time or temperature in [0, 1]."""

    criterion: str  # one of CRITERIA, or 'logistic'
    temperature: tuple[float, ...] | None  # those fitted to each exit, if any
    # Mean accuracy over the range of MACs from the first exit's to the last
    # one's: the area under the curve.
    area: float
    ece: tuple[float, ...]  # expected calibration error of each exit
    auroc: tuple[float, ...]  # how each tells its failures; NaN without any
    ensemble: str | None  # how exits answer together, one of ENSEMBLES
    # Accuracy at each of SHARES, and its bootstrap interval of 95 %; None
    # where that is less than the first exit takes.
    at: tuple[tuple[float, float, float] | None, ...]
    microseconds: float  # that NumPy takes to decide on an image at all exits


def compare_criteria(
        held_out: tuple[Sequence[Tensor], Tensor],
        judged: tuple[Sequence[Tensor], Tensor],
        macs: Sequence[float],
        budgets: Sequence[float],
        tick: Callable[[], Any] = lambda: None) -> list[CriterionRow]:
    """Compare all ``VARIANTS``.

    Args:
        held_out (tuple): Logits (N, K) of each exit and labels (N,), on
            which all is fitted and thresholds searched.
        judged (tuple): The same of the samples of which the numbers are;
            may be ``held_out``.
        macs (Sequence[float]): Cumulative MACs of each exit.
        budgets (Sequence[float]): Those that make the curve.
        tick (Callable): Called after each comparison.
    """
    logits, labels = held_out
    exits = ExitLogits(tuple(logits), labels, [], tuple(macs))
    fitted = tuple(fit_temperature(x, labels) for x in logits)
    rows = []
    for criterion, with_temperature, kind in VARIANTS:
        settings: dict[str, Any] = dict(
            criterion=criterion,
            temperature=fitted if with_temperature else None,
            ensemble=kind and fit_ensemble(kind, exits))
        if criterion == 'logistic':
            answers = ensemble_logits(logits, settings['ensemble'])
            right = torch.stack([x.argmax(-1) == labels for x in answers])
            settings['stopping'] = fit_stopping(answers, right, macs)
        solve_on = ExitOutcomes.of(logits, labels, macs, **settings)
        judge_on = solve_on if judged is held_out else ExitOutcomes.of(
            *judged, macs, **settings)
        search = ThresholdSearch(solve_on)
        rows.append(
            CriterionRow(
                criterion, settings['temperature'],
                _area(search, judge_on, budgets), *quality(judge_on), kind,
                tuple(
                    _at(search, judge_on, share * macs[-1])
                    for share in SHARES), _decision_time(logits, settings)))
        tick()
    return rows


def _at(search: ThresholdSearch, judge_on: ExitOutcomes,
        budget: float) -> tuple[float, float, float] | None:
    """Accuracy within a budget, with its bootstrap interval."""
    if budget < judge_on.cost[0]:
        return None
    accuracy = judge_on.evaluate(search.for_budget(budget)).utility
    number = judge_on.num_samples
    # Drawing answers that are right or wrong with replacement.
    means = np.random.default_rng(0).binomial(number, min(1., accuracy),
                                              RESAMPLES) / number
    low, high = np.percentile(means, [2.5, 97.5])
    return accuracy, float(low), float(high)


def _decision_time(logits: Sequence[Tensor], settings: dict) -> float:
    """Microseconds of the decisions on an image that runs to the end."""
    rows = [part[:1].float().cpu().numpy() for part in logits]
    policy = Policy(len(rows), None, **settings)

    def decide() -> None:
        memory = None
        for index, row in enumerate(rows):
            memory = policy.decide(index, row, memory).memory

    decide()
    # What other processes take does not count.
    return 1e5 * min(
        timeit.repeat(decide, timer=time.process_time, number=10, repeat=5))


def quality(
        samples: ExitOutcomes) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Calibration error and failure AUROC of each exit."""
    pairs = list(zip(samples.confidence, samples.utility))
    return (tuple(expected_calibration_error(*pair) for pair in pairs),
            tuple(failure_auroc(*pair) for pair in pairs))


def _area(search: ThresholdSearch, judge_on: ExitOutcomes,
          budgets: Sequence[float]) -> float:
    """Area under the curve of the thresholds searched for the budgets."""
    found = [judge_on.evaluate(search.for_budget(b)) for b in budgets]
    # The first and the last exit give all criteria the same range.
    static = judge_on.static()
    found += [static[0], static[-1]]
    return area_under_curve([outcome.cost for outcome in found],
                            [outcome.utility for outcome in found])
