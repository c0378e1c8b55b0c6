# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The numbers of a report: each policy at each budget on each data set."""
import csv
import io
from functools import partial
from typing import (Any, Callable, Dict, List, Mapping, NamedTuple, Optional,
                    Sequence, Tuple)

from ..core import (HeldOut, Outcome, ThresholdSearch, evaluate,
                    fixed_exit_thresholds, random_exit_outcome,
                    share_solution_for_budget)

__all__ = [
    'SweepRow', 'mean_latency', 'rows_to_csv', 'select', 'static_rows',
    'sweep_budgets', 'sweep_rows', 'whole_curve'
]


class SweepRow(NamedTuple):
    """One policy at one budget on one data set.

    Args:
        series (str): 'search', 'shares', 'random' or 'exit K'.
        data (str): 'held-out' or 'test'.
        budget (float, optional): Mean MACs that it was solved for.
        macs (float): Mean MACs that it takes.
        latency_ms (float, optional): Mean latency by the table.
        accuracy (float): In [0, 1].
        shares (tuple[float]): Share of samples that leave at each exit.
        thresholds (tuple[float]): Empty where nothing is compared.
    """

    series: str
    data: str
    budget: Optional[float]
    macs: float
    latency_ms: Optional[float]
    accuracy: float
    shares: Tuple[float, ...]
    thresholds: Tuple[float, ...] = ()


def mean_latency(shares: Sequence[float],
                 latency_ms: Optional[Sequence[float]]) -> Optional[float]:
    """Mean latency of one image, if that of each exit is known."""
    if latency_ms is None:
        return None
    return sum(s * ms for s, ms in zip(shares, latency_ms))


def sweep_budgets(macs: Sequence[float], count: int = 33) -> List[float]:
    """Budgets from the first exit's cost to the last one's.

    They are denser at the cheap end, where accuracy rises fastest: their
    distances from the first exit's cost grow as squares.

    Args:
        macs (Sequence[float]): Cumulative MACs of each exit.
        count (int): How many. Defaults to 33.
    """
    first, last = float(macs[0]), float(macs[-1])
    return [
        first + (last - first) * (i / (count - 1))**2 for i in range(count - 1)
    ] + [last]


def sweep_rows(data: Mapping[str, HeldOut],
               macs: Sequence[float],
               budgets: Sequence[float],
               latency_ms: Optional[Sequence[float]] = None,
               tick: Callable[[], Any] = lambda: None) -> List[SweepRow]:
    """Solve each budget with each solver, and leave at random as often.

    Args:
        data (Mapping[str, HeldOut]): Name -> samples; thresholds are solved
            on the first and evaluated on all.
        macs (Sequence[float]): Cumulative MACs of each exit.
        budgets (Sequence[float]): Mean MACs.
        latency_ms (Sequence[float], optional): Cumulative latency of each
            exit. Defaults to None.
        tick (Callable): Called after each budget. Defaults to nothing.

    Returns:
        list[SweepRow]: The random policy has, on each data set, the shares
        that the searched thresholds have there.
    """
    held_out = next(iter(data.values()))
    solvers: Mapping[str, Callable[[float], Tuple[float, ...]]] = {
        'search': ThresholdSearch(held_out, macs).for_budget,
        'shares': partial(share_solution_for_budget, held_out, macs)
    }
    rows = []

    def add(series: str, name: str, budget: float, outcome: Outcome,
            thresholds: Tuple[float, ...]) -> None:
        rows.append(
            SweepRow(series, name, budget, outcome.macs,
                     mean_latency(outcome.shares, latency_ms),
                     outcome.accuracy, outcome.shares, thresholds))

    for budget in budgets:
        for series, solve in solvers.items():
            thresholds = tuple(solve(budget))
            for name, samples in data.items():
                outcome = evaluate(samples, thresholds, macs)
                add(series, name, budget, outcome, thresholds)
                if series == 'search':
                    add('random', name, budget,
                        random_exit_outcome(samples, outcome.shares, macs), ())
        tick()
    return rows


def static_rows(
        data: Mapping[str, HeldOut],
        macs: Sequence[float],
        latency_ms: Optional[Sequence[float]] = None) -> List[SweepRow]:
    """What it brings to leave always at the same exit.

    Args:
        data (Mapping[str, HeldOut]): Name -> samples.
        macs (Sequence[float]): Cumulative MACs of each exit.
        latency_ms (Sequence[float], optional): Cumulative latency of each
            exit. Defaults to None.
    """
    rows = []
    for name, samples in data.items():
        for k in range(len(macs)):
            outcome = evaluate(samples, fixed_exit_thresholds(k, len(macs)),
                               macs)
            rows.append(
                SweepRow(f'exit {k}', name, None, outcome.macs,
                         mean_latency(outcome.shares, latency_ms),
                         outcome.accuracy, outcome.shares))
    return rows


def select(rows: Sequence[SweepRow], series: str, data: str) -> List[SweepRow]:
    """The rows of one series on one data set, cheap to expensive.

    Args:
        rows (Sequence[SweepRow]): All rows.
        series (str): Its name; 'exit' for all static exits.
        data (str): Name of the data set.
    """
    return sorted(
        (row for row in rows if row.data == data and (row.series == series or (
            series == 'exit' and row.series.startswith('exit ')))),
        key=lambda row: row.macs)


def whole_curve(rows: Sequence[SweepRow], series: str,
                data: str) -> List[SweepRow]:
    """The rows of one series from the first exit to the last.

    A searched series ends where more MACs help no longer; the last exit is
    what takes all of them.

    Args:
        rows (Sequence[SweepRow]): All rows, those of the exits among them.
        series (str): Its name.
        data (str): Name of the data set.
    """
    exits = select(rows, 'exit', data)
    return [exits[0], *select(rows, series, data), exits[-1]]


def rows_to_csv(rows: Sequence[SweepRow]) -> str:
    """The rows as CSV; what is not known stays empty.

    Args:
        rows (Sequence[SweepRow]): At least one.
    """
    num_exits = len(rows[0].shares)
    names = [
        'series', 'data', 'budget', 'macs', 'latency_ms', 'accuracy',
        *(f'share_{k}' for k in range(num_exits)),
        *(f'threshold_{k}' for k in range(num_exits - 1))
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator='\n')
    writer.writeheader()
    for row in rows:
        line: Dict[str, Any] = row._asdict()
        for part in ('share', 'threshold'):
            values = line.pop(f'{part}s')
            line.update((f'{part}_{k}', v) for k, v in enumerate(values))
        writer.writerow(line)
    return text.getvalue()
