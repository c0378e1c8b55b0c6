# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The numbers of a report: each policy at each budget on each data set."""
import csv
import io
from functools import partial
from typing import Any, Callable, Mapping, NamedTuple, Sequence

from ..calibration.held_out import (HeldOut, Outcome, evaluate,
                                    random_exit_outcome)
from ..calibration.share_solver import share_solution_for_budget
from ..calibration.threshold_search import ThresholdSearch
from ..core import fixed_exit_thresholds

__all__ = [
    'SweepRow', 'mean_latency', 'rows_to_csv', 'select', 'static_rows',
    'sweep_budgets', 'sweep_rows', 'whole_curve'
]


class SweepRow(NamedTuple):
    """One policy at one budget on one data set."""

    series: str  # 'search', 'shares', 'random' or 'exit K'
    data: str  # 'held-out' or 'test'
    budget: float | None  # mean MACs that it was solved for
    macs: float  # mean MACs that it takes
    latency_ms: float | None  # mean by the table
    accuracy: float  # in [0, 1]
    shares: tuple[float, ...]  # of the samples, that leave at each exit
    thresholds: tuple[float, ...] = ()  # where any are compared

    @classmethod
    def of(
        cls,
        outcome: Outcome,
        latency_ms: Sequence[float] | None,
        series: str,
        data: str,
        budget: float | None = None,
        thresholds: tuple[float, ...] = ()
    ) -> 'SweepRow':
        """The row of an outcome."""
        return cls(series, data, budget, outcome.macs,
                   mean_latency(outcome.shares, latency_ms), outcome.accuracy,
                   outcome.shares, thresholds)


def mean_latency(shares: Sequence[float],
                 latency_ms: Sequence[float] | None) -> float | None:
    """Mean latency of one image, if that of each exit is known."""
    if latency_ms is None:
        return None
    return sum(s * ms for s, ms in zip(shares, latency_ms))


def sweep_budgets(macs: Sequence[float], count: int = 33) -> list[float]:
    """So many budgets from the first exit's MACs to the last one's.

    They are denser at the cheap end, where accuracy rises fastest: their
    distances from the first exit's cost grow as squares.
    """
    first, last = float(macs[0]), float(macs[-1])
    return [
        first + (last - first) * (i / (count - 1))**2 for i in range(count - 1)
    ] + [last]


def sweep_rows(data: Mapping[str, HeldOut],
               macs: Sequence[float],
               budgets: Sequence[float],
               latency_ms: Sequence[float] | None = None,
               tick: Callable[[], Any] = lambda: None) -> list[SweepRow]:
    """Solve each budget with each solver, and leave at random as often.

    Args:
        data (Mapping[str, HeldOut]): Name -> samples; thresholds are solved
            on the first and evaluated on all.
        macs (Sequence[float]): Cumulative MACs of each exit.
        budgets (Sequence[float]): Mean MACs.
        latency_ms (Sequence[float], optional): Cumulative, of each exit.
        tick (Callable): Called after each budget.

    Returns:
        list[SweepRow]: The random policy has, on each data set, the shares
        that the searched thresholds have there.
    """
    held_out = next(iter(data.values()))
    solvers: dict[str, Callable[[float], Sequence[float]]] = {
        'search': ThresholdSearch(held_out, macs).for_budget,
        'shares': partial(share_solution_for_budget, held_out, macs)
    }
    rows = []
    for budget in budgets:
        for series, solve in solvers.items():
            thresholds = tuple(solve(budget))
            for name, samples in data.items():
                outcome = evaluate(samples, thresholds, macs)
                rows.append(
                    SweepRow.of(outcome, latency_ms, series, name, budget,
                                thresholds))
                if series == 'search':
                    chance = random_exit_outcome(samples, outcome.shares, macs)
                    rows.append(
                        SweepRow.of(chance, latency_ms, 'random', name,
                                    budget))
        tick()
    return rows


def static_rows(data: Mapping[str, HeldOut],
                macs: Sequence[float],
                latency_ms: Sequence[float] | None = None) -> list[SweepRow]:
    """What it brings to leave always at the same exit; see `sweep_rows`."""
    thresholds = [
        fixed_exit_thresholds(k, len(macs)) for k in range(len(macs))
    ]
    return [
        SweepRow.of(
            evaluate(samples, fixed, macs), latency_ms, f'exit {k}', name)
        for name, samples in data.items() for k, fixed in enumerate(thresholds)
    ]


def select(rows: Sequence[SweepRow], series: str, data: str) -> list[SweepRow]:
    """The rows of one series ('exit': all static exits) on one data set.

    They go from cheap to expensive.
    """
    found = [
        row for row in rows if row.data == data and
        (row.series == series or series == row.series.split(' ')[0] == 'exit')
    ]
    return sorted(found, key=lambda row: row.macs)


def whole_curve(rows: Sequence[SweepRow], series: str,
                data: str) -> list[SweepRow]:
    """The rows of one series from the first exit to the last.

    A searched series ends where more MACs help no longer; the last exit is
    what takes all of them.
    """
    exits = select(rows, 'exit', data)
    return [exits[0], *select(rows, series, data), exits[-1]]


def rows_to_csv(rows: Sequence[SweepRow]) -> str:
    """The rows, at least one, as CSV; what is not known stays empty."""
    num_exits = len(rows[0].shares)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow([
        *SweepRow._fields[:-2], *(f'share_{k}' for k in range(num_exits)),
        *(f'threshold_{k}' for k in range(num_exits - 1))
    ])
    for row in rows:
        padding = [None] * (num_exits - 1 - len(row.thresholds))
        writer.writerow([*row[:-2], *row.shares, *row.thresholds, *padding])
    return text.getvalue()
