# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The numbers of a report: each policy at each budget on each data set."""
import csv
import io
from functools import partial
from typing import Any, Callable, Mapping, NamedTuple, Protocol, Sequence

from ..calibration.outcomes import ExitOutcomes, Outcome
from ..calibration.share_solver import share_solution_for_budget
from ..calibration.threshold_search import ThresholdSearch
from ..core.complexity import expected_cost

__all__ = [
    'Judge', 'SweepRow', 'mean_latency', 'rows_to_csv', 'select',
    'static_rows', 'sweep_budgets', 'sweep_rows', 'whole_curve'
]


class Judge(Protocol):
    """What tells how good policies are on a data set: `ExitOutcomes`."""

    def evaluate(self, thresholds: Sequence[float]) -> Outcome:
        """What thresholds bring."""

    def at_random(self, shares: Sequence[float]) -> Outcome:
        """What leaving by chance brings, with these shares."""

    def static(self) -> Sequence[Outcome]:
        """What it brings to leave always at the same exit, for each."""


class SweepRow(NamedTuple):
    """One policy at one budget on one data set."""

    series: str  # 'search', 'shares', 'random' or 'exit K'
    data: str  # 'held-out' or 'test'
    budget: float | None  # mean MACs that it was solved for
    macs: float  # mean MACs that it takes
    latency_ms: float | None  # mean by the table
    utility: float  # the accuracy, in [0, 1], or another measure
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
        return cls(series, data, budget, outcome.cost,
                   mean_latency(outcome.shares, latency_ms), outcome.utility,
                   outcome.shares, thresholds)

    def as_dict(self, measure: str = 'accuracy') -> dict[str, Any]:
        """The row with the utility under the name of what it is."""
        names = (measure if n == 'utility' else n for n in self._fields)
        return dict(zip(names, self))


def mean_latency(shares: Sequence[float],
                 latency_ms: Sequence[float] | None) -> float | None:
    """Mean latency of one image, if that of each exit is known."""
    return None if latency_ms is None else expected_cost(shares, latency_ms)


def sweep_budgets(macs: Sequence[float], count: int = 33) -> list[float]:
    """So many budgets from the first exit's MACs to the last one's.

    They are denser at the cheap end, where accuracy rises fastest: their
    distances from the first exit's cost grow as squares.
    """
    first, last = float(macs[0]), float(macs[-1])
    return [
        first + (last - first) * (i / (count - 1))**2 for i in range(count - 1)
    ] + [last]


def sweep_rows(
    held_out: ExitOutcomes,
    data: Mapping[str, Judge],
    budgets: Sequence[float],
    latency_ms: Sequence[float] | None = None,
    tick: Callable[[], Any] = lambda: None,
    solvers: Sequence[str] = ('search', 'shares')
) -> list[SweepRow]:
    """Solve each budget with each solver, and leave at random as often.

    Args:
        held_out (ExitOutcomes): On which thresholds are solved.
        data (Mapping[str, Judge]): Name -> where they are evaluated.
        budgets (Sequence[float]): Mean MACs.
        latency_ms (Sequence[float], optional): Cumulative, of each exit.
        tick (Callable): Called after each budget.
        solvers (Sequence[str]): What solves them.

    Returns:
        list[SweepRow]: The random policy has, on each data set, the shares
        that the searched thresholds have there.
    """
    known: dict[str, Callable[[float], Sequence[float]]] = {
        'search': ThresholdSearch(held_out).for_budget,
        'shares': partial(share_solution_for_budget, held_out)
    }
    rows = []
    for budget in budgets:
        for series in solvers:
            thresholds = tuple(known[series](budget))
            for name, samples in data.items():
                outcome = samples.evaluate(thresholds)
                rows.append(
                    SweepRow.of(outcome, latency_ms, series, name, budget,
                                thresholds))
                if series == 'search':
                    chance = samples.at_random(outcome.shares)
                    rows.append(
                        SweepRow.of(chance, latency_ms, 'random', name,
                                    budget))
        tick()
    return rows


def static_rows(data: Mapping[str, Judge],
                latency_ms: Sequence[float] | None = None) -> list[SweepRow]:
    """What it brings to leave always at the same exit; see `sweep_rows`."""
    return [
        SweepRow.of(outcome, latency_ms, f'exit {k}', name)
        for name, samples in data.items()
        for k, outcome in enumerate(samples.static())
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


def rows_to_csv(rows: Sequence[SweepRow], measure: str = 'accuracy') -> str:
    """The rows, at least one, as CSV; what is not known stays empty.

    ``measure`` is the name of the column with the utilities.
    """
    num_exits = len(rows[0].shares)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow([
        *list(rows[0].as_dict(measure))[:-2],
        *(f'share_{k}' for k in range(num_exits)),
        *(f'threshold_{k}' for k in range(num_exits - 1))
    ])
    for row in rows:
        padding = [None] * (num_exits - 1 - len(row.thresholds))
        writer.writerow([*row[:-2], *row.shares, *row.thresholds, *padding])
    return text.getvalue()
