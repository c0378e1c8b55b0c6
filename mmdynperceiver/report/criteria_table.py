# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Which criterion is best: all of them, with and without temperatures."""
from typing import Any, Callable, NamedTuple, Sequence

from torch import Tensor

from ..calibration.confidence import (area_under_curve,
                                      expected_calibration_error,
                                      failure_auroc, fit_temperature)
from ..calibration.outcomes import ExitOutcomes
from ..calibration.threshold_search import ThresholdSearch
from ..core.criteria import CRITERIA

__all__ = ['VARIANTS', 'CriterionRow', 'compare_criteria']

# A criterion, and whether temperatures are fitted: one does not change which
# class an exit predicts.
VARIANTS = [(name, fitted) for name in CRITERIA for fitted in (False, True)
            if not (fitted and name == 'patience')]


class CriterionRow(NamedTuple):
    """How good one criterion is; all but the temperatures in [0, 1]."""

    criterion: str  # one of CRITERIA
    temperature: tuple[float, ...] | None  # those fitted to each exit, if any
    # Mean accuracy over the range of MACs from the first exit's to the last
    # one's: the area under the curve.
    area: float
    ece: tuple[float, ...]  # expected calibration error of each exit
    auroc: tuple[float, ...]  # how each tells its failures; NaN without any


def compare_criteria(
        held_out: tuple[Sequence[Tensor], Tensor],
        judged: tuple[Sequence[Tensor], Tensor],
        macs: Sequence[float],
        budgets: Sequence[float],
        tick: Callable[[], Any] = lambda: None) -> list[CriterionRow]:
    """Compare all criteria, each with and without fitted temperatures.

    Args:
        held_out (tuple): Logits (N, K) of each exit and labels (N,), on
            which temperatures are fitted and thresholds searched.
        judged (tuple): The same of the samples of which the numbers are;
            may be ``held_out``.
        macs (Sequence[float]): Cumulative MACs of each exit.
        budgets (Sequence[float]): Those that make the curve.
        tick (Callable): Called after each comparison.
    """
    logits, labels = held_out
    fitted = tuple(fit_temperature(x, labels) for x in logits)
    rows = []
    for criterion, with_temperature in VARIANTS:
        temperature = fitted if with_temperature else None
        solve_on = ExitOutcomes.of(logits, labels, macs, criterion,
                                   temperature)
        judge_on = solve_on if judged is held_out else ExitOutcomes.of(
            *judged, macs, criterion, temperature)
        area = _area(solve_on, judge_on, budgets)
        rows.append(
            CriterionRow(criterion, temperature, area, *quality(judge_on)))
        tick()
    return rows


def quality(
        samples: ExitOutcomes) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Calibration error and failure AUROC of each exit."""
    pairs = list(zip(samples.confidence, samples.utility))
    return (tuple(expected_calibration_error(*pair) for pair in pairs),
            tuple(failure_auroc(*pair) for pair in pairs))


def _area(solve_on: ExitOutcomes, judge_on: ExitOutcomes,
          budgets: Sequence[float]) -> float:
    """Area under the curve of the thresholds searched for the budgets."""
    search = ThresholdSearch(solve_on)
    found = [judge_on.evaluate(search.for_budget(b)) for b in budgets]
    # The first and the last exit give all criteria the same range.
    static = judge_on.static()
    found += [static[0], static[-1]]
    return area_under_curve([outcome.cost for outcome in found],
                            [outcome.utility for outcome in found])
