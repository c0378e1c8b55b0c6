# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Old forms of calibration's functions, for one more release.

:class:`ExitOutcomes` holds samples and costs, and has the methods.
"""
import os
from typing import Any, NamedTuple, Sequence, Tuple, Union

from torch import Tensor

from ..core.operating_point import OperatingPoint
from ..core.policy import check_thresholds
from . import outcomes, share_solver, threshold_search
from .confidence import (area_under_curve, expected_calibration_error,
                         failure_auroc, fit_temperature)
from .share_solver import paper_shares

__all__ = [
    'HeldOut', 'Outcome', 'ThresholdSearch', 'area_under_curve', 'evaluate',
    'expected_calibration_error', 'failure_auroc', 'fit_temperature',
    'load_thresholds', 'paper_shares', 'random_exit_outcome',
    'save_thresholds', 'search_thresholds', 'share_solution_for_budget',
    'solve_by_shares'
]


class Outcome(outcomes.Outcome):
    """Where the utility is an accuracy, and the costs may be MACs."""

    accuracy = property(lambda self: self.utility)
    macs = property(lambda self: self.cost)


class HeldOut(NamedTuple):
    """Confidence (num_exits, N) of each exit, and whether it is right."""

    confidences: Tensor
    right: Tensor

    @classmethod
    def of(cls, all_logits: Sequence[Tensor], labels: Tensor, *args: Any,
           **kwargs: Any) -> 'HeldOut':
        """From logits, labels, a criterion and temperatures."""
        costs = range(len(all_logits))
        found = outcomes.ExitOutcomes.of(all_logits, labels, costs, *args,
                                         **kwargs)
        return cls(found.confidence, found.utility)


def evaluate(held_out: HeldOut, thresholds: Sequence[float],
             costs: Sequence[float]) -> Outcome:
    """See :meth:`ExitOutcomes.evaluate`."""
    joined = outcomes.ExitOutcomes(*held_out, costs)
    return Outcome(*joined.evaluate(thresholds))


def random_exit_outcome(held_out: HeldOut, shares: Sequence[float],
                        costs: Sequence[float]) -> Outcome:
    """See :meth:`ExitOutcomes.at_random`."""
    joined = outcomes.ExitOutcomes(*held_out, costs)
    return Outcome(*joined.at_random(shares))


def solve_by_shares(held_out: HeldOut, shares: Any) -> Tuple[float, ...]:
    """See :func:`share_solver.solve_by_shares`."""
    return share_solver.solve_by_shares(held_out.confidences, shares)


def share_solution_for_budget(held_out: HeldOut, costs: Sequence[float],
                              budget: float) -> Tuple[float, ...]:
    """See :func:`share_solver.share_solution_for_budget`."""
    joined = outcomes.ExitOutcomes(*held_out, costs)
    return share_solver.share_solution_for_budget(joined, budget)


class ThresholdSearch(threshold_search.ThresholdSearch):
    """See :class:`threshold_search.ThresholdSearch`."""

    def __init__(self, held_out: HeldOut, costs: Sequence[float]) -> None:
        super().__init__(outcomes.ExitOutcomes(*held_out, costs))

    for_accuracy = threshold_search.ThresholdSearch.for_utility


def search_thresholds(held_out: HeldOut,
                      costs: Sequence[float],
                      budget: Any = None,
                      min_accuracy: Any = None) -> Tuple[float, ...]:
    """For the best accuracy in a budget, or for the least cost."""
    if (budget is None) == (min_accuracy is None):
        raise ValueError(f'give either a budget or a smallest accuracy, got '
                         f'budget={budget!r} and '
                         f'min_accuracy={min_accuracy!r}')
    search = ThresholdSearch(held_out, costs)
    if budget is not None:
        return search.for_budget(budget)
    return search.for_utility(min_accuracy)


def load_thresholds(path: Union[str, os.PathLike],
                    num_exits: int = 4) -> Tuple[float, ...]:
    """Read thresholds of the largest softmax probability from a JSON file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not JSON, is made for another criterion or with
            temperatures, or its thresholds do not fit; the file is named.
    """
    point = OperatingPoint.load(path, num_exits)
    if point.criterion != 'max_prob' or point.temperature is not None:
        raise ValueError(
            f'thresholds file {os.fspath(path)!r} is made for the criterion '
            f'{point.criterion!r} with temperatures {point.temperature}; '
            f"expected 'max_prob' without any. Read it with "
            f'OperatingPoint.load')
    return point.thresholds


def save_thresholds(path: Union[str, os.PathLike], thresholds: Sequence[float],
                    **details: Any) -> None:
    """Write such thresholds, and details that JSON can hold, to a file; they
    stand in the ``data`` of the operating point.

    Raises:
        ValueError: If a threshold is NaN or negative.
    """
    values = check_thresholds(thresholds, len(thresholds) + 1)
    OperatingPoint(values, data=details).save(path)
