# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What a user asks of an operating point, read from the command line."""
import math
import re
from dataclasses import dataclass
from typing import Any, Dict, Optional, Sequence

from ..core import OperatingPoint
from ..errors import InputError

__all__ = ['Goal', 'choose_point', 'parse_accuracy', 'parse_amount']

UNITS = {'': 1., 'k': 1e3, 'm': 1e6, 'g': 1e9, 't': 1e12}
NUMBER = r'\d+(?:\.\d*)?(?:e[+-]?\d+)?|\.\d+'


def parse_amount(text: str, last: float, what: str = 'a budget') -> float:
    """Read an amount: plain, with a unit, or as a share of the last exit.

    Args:
        text (str): Such as '7.5M', '1.2G', '7500000' or '50%'.
        last (float): Cost of the last exit, of which % is a share.
        what (str): Stands in the message. Defaults to 'a budget'.

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
    """Read an accuracy.

    Args:
        text (str): A share in [0, 1] such as '0.95', or '95%'.

    Raises:
        InputError: If it is neither.
    """
    match = re.fullmatch(rf'({NUMBER})\s*(%?)', text.strip().lower())
    value = float(match.group(1)) if match else math.nan
    if match and match.group(2):
        value /= 100
    if not 0 <= value <= 1:
        raise InputError(f'an accuracy must be a share such as 0.95, or 95%, '
                         f'got {text!r}')
    return value


@dataclass(frozen=True)
class Goal:
    """A budget or a floor, in the costs that it counts in.

    Args:
        costs (Sequence[float]): Mean cost of one sample up to each exit.
        unit (str): 'MACs' or 'ms'.
        budget (float, optional): Most that a sample may cost on average.
            Defaults to None.
        min_accuracy (float, optional): Least accuracy, in [0, 1]. Defaults
            to None.

    Raises:
        InputError: If the budget is below the first exit's cost.
    """

    costs: Sequence[float]
    unit: str = 'MACs'
    budget: Optional[float] = None
    min_accuracy: Optional[float] = None

    def __post_init__(self) -> None:
        """Check the budget's range."""
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
                f'it, and the most accurate ones are taken')

    def show(self, cost: float) -> str:
        """A cost in words."""
        return format_cost(cost, self.unit)

    def as_dict(self) -> Dict[str, Any]:
        """What was asked for, for the file of the operating point."""
        if self.budget is None:
            return dict(min_accuracy=self.min_accuracy)
        return {f'budget_{self.unit.lower()}': self.budget}


def format_cost(cost: float, unit: str) -> str:
    """A cost in words.

    Args:
        cost (float): The cost.
        unit (str): 'MACs' or 'ms'.
    """
    if unit == 'ms':
        return f'{cost:.3f} ms'
    for prefix, scale in (('G', 1e9), ('M', 1e6), ('k', 1e3)):
        if cost >= scale:
            return f'{cost / scale:.4g}{prefix} {unit}'
    return f'{cost:.4g} {unit}'


def choose_point(path: str, budget: str) -> str:
    """The most accurate operating point of a sweep within a budget.

    Args:
        path (str): JSON file of ``tools/calibrate.py --sweep``.
        budget (str): Mean MACs, as for :func:`parse_amount`.

    Returns:
        str: The file with the number of the point, as
        :meth:`OperatingPoint.load` takes it.

    Raises:
        FileNotFoundError: If there is no such file.
        InputError: If the file does not say what its points bring, or all
            cost more.
        ValueError: If it does not hold operating points.
    """
    points = OperatingPoint.load_all(path)
    try:
        costs = [float(point.expected['macs']) for point in points]
        accuracies = [float(point.expected['accuracy']) for point in points]
        last = max(point.expected['macs_per_exit'][-1] for point in points)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(
            f'{path!r} does not say what its operating points cost: make it '
            f'anew with tools/calibrate.py --sweep') from error
    limit = parse_amount(budget, last, '--budget-macs')
    within = [k for k, cost in enumerate(costs) if cost <= limit]
    if not within:
        raise InputError(f'the least budget of {path!r} is '
                         f'{format_cost(min(costs), "MACs")}, got '
                         f'{format_cost(limit, "MACs")}')
    best = max(within, key=lambda k: (accuracies[k], -costs[k]))
    return f'{path}:{best}'
