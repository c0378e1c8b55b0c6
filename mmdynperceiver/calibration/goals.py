# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What a user asks of operating points, and how it is solved."""
import math
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ..core import OperatingPoint
from ..errors import InputError
from .exit_accuracy import thresholds_for_accuracy
from .outcomes import ExitOutcomes
from .share_solver import (paper_shares, share_solution_for_budget,
                           solve_by_shares)
from .threshold_search import ThresholdSearch

__all__ = [
    'Goal', 'SOLVERS', 'choose_point', 'parse_accuracy', 'parse_amount',
    'parse_part', 'solve'
]

SOLVERS = ('search', 'shares')
# Budgets at which the share-based solver looks for a floor.
FLOOR_STEPS = 200

# Budgets of a curve, beside the least.
CURVE_STEPS = 24

UNITS = {'': 1., 'k': 1e3, 'm': 1e6, 'g': 1e9, 't': 1e12}
NUMBER = r'\d+(?:\.\d*)?(?:e[+-]?\d+)?|\.\d+'

Solved = List[Tuple[Sequence[float], Dict[str, Any]]]


def parse_amount(text: str, last: float, what: str = 'a budget') -> float:
    """Read '7.5M', '1.2G', '7500000', or '50%' of what the last exit costs.

    ``what`` it is stands in the message.

    Raises:
        InputError: If it is none of these, or not positive.
    """
    match = re.fullmatch(rf'({NUMBER})\s*([kmgt%]?)', text.strip().lower())
    value = float(match.group(1)) if match else 0.
    if not match or not math.isfinite(value) or value <= 0:
        raise InputError(
            f'{what} must be a positive number, with k, M, G or T, or a share '
            f'of the last exit with %, got {text!r}')
    if match.group(2) == '%':
        return value / 100 * last
    return value * UNITS[match.group(2)]


def parse_accuracy(text: str) -> float:
    """Read an accuracy, a share in [0, 1] such as '0.95', or '95%'.

    Raises:
        InputError: If it is neither.
    """
    value = _share(text)
    if not 0 <= value <= 1:
        raise InputError(f'an accuracy must be a share such as 0.95, or 95%, '
                         f'got {text!r}')
    return value


def parse_part(text: str, what: str) -> float:
    """Read a share between 0 and 1, such as '0.01', or '1%'.

    Raises:
        InputError: If it is neither; ``what`` it is stands in the message.
    """
    value = _share(text)
    if not 0 < value < 1:
        raise InputError(f'{what} must be a share above 0 and below 1, such '
                         f'as 0.01, or 1%, got {text!r}')
    return value


def _share(text: str) -> float:
    """A number, or one with %; NaN of anything else."""
    match = re.fullmatch(rf'({NUMBER})\s*(%?)', text.strip().lower())
    if not match:
        return math.nan
    return float(match.group(1)) / (100 if match.group(2) else 1)


@dataclass(frozen=True)
class Goal:
    """A budget or a floor, in the costs that it counts in; or the sweep.

    Args:
        costs (Sequence[float]): Mean cost of one sample up to each exit.
        unit (str): 'MACs' or 'ms'.
        budget (float, optional): Most that a sample may cost on average.
        min_utility (float, optional): Least mean utility, such as the
            accuracy in [0, 1].
        exit_accuracy (float, optional): Least probability that an answer is
            right, see :mod:`~mmdynperceiver.calibration.exit_accuracy`.
        max_risk (float, optional): Largest risk against the last exit, see
            :mod:`~mmdynperceiver.calibration.risk_control`.
        certainty (float, optional): How certain that is.
        curve (bool): Whether a whole curve is asked for.
        risk (str): Which risk. With none of these, the published sweep is
            asked for.

    Raises:
        InputError: If the budget is below the first exit's cost.
    """

    costs: Sequence[float]
    unit: str = 'MACs'
    budget: Optional[float] = None
    min_utility: Optional[float] = None
    exit_accuracy: Optional[float] = None
    max_risk: Optional[float] = None
    certainty: Optional[float] = None
    curve: bool = False
    risk: str = 'disagreement'

    def __post_init__(self) -> None:
        low, high = self.costs[0], self.costs[-1]
        if self.budget is not None and not self.budget >= low:
            raise InputError(
                f'the least budget is {self.show(low)} (all leave at the '
                f'first exit; the last costs {self.show(high)}), got '
                f'{self.show(self.budget)}')

    @property
    def note(self) -> str:
        """What to know of a budget that all thresholds keep, or ''."""
        high = self.costs[-1]
        if self.budget is None or self.budget < high:
            return ''
        return (f'the budget {self.show(self.budget)} is not below the cost '
                f'of the last exit, {self.show(high)}: any thresholds keep '
                f'it, and the best ones are taken')

    def show(self, cost: float) -> str:
        """A cost in words."""
        if self.unit == 'ms':
            return f'{cost:.3f} ms'
        for prefix, scale in (('G', 1e9), ('M', 1e6), ('k', 1e3)):
            if cost >= scale:
                return f'{cost / scale:.4g}{prefix} {self.unit}'
        return f'{cost:.4g} {self.unit}'


def solve(outcomes: ExitOutcomes, goal: Goal, solver: str) -> Solved:
    """Solve thresholds for a goal by 'search' or by 'shares'.

    Returns:
        list[tuple]: Thresholds, one for each exit but the last, and what
        they were solved for.

    Raises:
        ValueError: If no thresholds reach the goal.
    """
    outcomes = outcomes.with_cost(goal.costs)
    if goal.exit_accuracy is not None:
        return [(thresholds_for_accuracy(outcomes, goal.exit_accuracy),
                 dict(exit_accuracy=goal.exit_accuracy))]
    search = ThresholdSearch(outcomes) if solver == 'search' else None
    if goal.budget is not None:
        found = search.for_budget(goal.budget) if search else \
            share_solution_for_budget(outcomes, goal.budget)
        return [(found, {f'budget_{goal.unit.lower()}': goal.budget})]
    if goal.min_utility is not None:
        found = search.for_utility(goal.min_utility) if search else \
            _cheapest_shares(outcomes, goal.min_utility)
        return [(found, {f'min_{outcomes.measure}': goal.min_utility})]
    if goal.curve:
        return _curve(outcomes, search)
    points = [
        solve_by_shares(outcomes.confidence, shares)
        for shares in paper_shares(outcomes.num_exits)
    ]
    if search:
        points = [search.for_budget(outcomes.evaluate(p).cost) for p in points]
    return [(thresholds, dict(sweep='paper', index=index))
            for index, thresholds in enumerate(points)]


def _curve(outcomes: ExitOutcomes,
           search: Optional[ThresholdSearch]) -> Solved:
    """The best points for mean costs from the first exit's to the last's;
    those that another one beats are left out."""
    low, high = outcomes.cost[0], outcomes.cost[-1]
    found: Dict[float, Tuple[float, Sequence[float]]] = {}
    for step in range(CURVE_STEPS + 1):
        budget = low + (high - low) * step / CURVE_STEPS
        budget = min(budget, high)
        thresholds = search.for_budget(budget) if search else \
            share_solution_for_budget(outcomes, budget)
        brought = outcomes.evaluate(thresholds)
        known = found.get(brought.utility)
        if known is None or brought.cost < known[0]:
            found[brought.utility] = (brought.cost, thresholds)
    # By cost; each must be better than all cheaper ones.
    best, points = -math.inf, []
    for utility, (_, thresholds) in sorted(
            found.items(), key=lambda entry: entry[1][0]):
        if utility > best:
            best = utility
            points.append(thresholds)
    return [(thresholds, dict(curve=len(points), index=index))
            for index, thresholds in enumerate(points)]


def _cheapest_shares(outcomes: ExitOutcomes, floor: float) -> Sequence[float]:
    """The cheapest share-based thresholds that reach a floor."""
    low, high = outcomes.cost[0], outcomes.cost[-1]
    best = -math.inf
    for step in range(FLOOR_STEPS + 1):
        budget = low + (high - low) * step / FLOOR_STEPS
        thresholds = share_solution_for_budget(outcomes, min(budget, high))
        utility = outcomes.evaluate(thresholds).utility
        if utility >= floor:
            return thresholds
        best = max(best, utility)
    raise InputError(f'no share-based thresholds reach the {outcomes.measure} '
                     f'{floor:.4f} on the held-out images: the best have '
                     f'{best:.4f}')


def choose_point(path: str, budget: str) -> str:
    """The best operating point of a sweep within a budget.

    Args:
        path (str): JSON file of ``tools/calibrate.py --sweep``.
        budget (str): Mean MACs, as for :func:`parse_amount`.

    Returns:
        str: The file and the number of the point: 'sweep.json:12'.

    Raises:
        FileNotFoundError: If there is no such file.
        InputError: If the file does not say what its points bring, or all
            cost more.
        ValueError: If it does not hold operating points.
    """
    points = OperatingPoint.load_all(path)
    try:
        found = [point.expected for point in points]
        costs = [float(brought['macs']) for brought in found]
        measure = 'utility' if 'utility' in found[0] else 'accuracy'
        utilities = [float(brought[measure]) for brought in found]
        last = max(brought['macs_per_exit'][-1] for brought in found)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(
            f'{path!r} does not say what its operating points cost: make it '
            f'anew with tools/calibrate.py --sweep') from error
    limit = parse_amount(budget, last, '--budget-macs')
    within = [k for k, cost in enumerate(costs) if cost <= limit]
    if not within:
        show = Goal(costs).show
        raise InputError(f'the least budget of {path!r} is '
                         f'{show(min(costs))}, got {show(limit)}')
    best = max(within, key=lambda k: (utilities[k], -costs[k]))
    return f'{path}:{best}'
