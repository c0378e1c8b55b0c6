# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What a report says: all numbers, before anything is drawn."""
import math
from typing import (Any, Callable, Dict, List, NamedTuple, Optional, Protocol,
                    Sequence, Tuple)

import torch
from torch import Tensor

from ..core import (HeldOut, OperatingPoint, area_under_curve, evaluate,
                    expected_calibration_error, failure_auroc, select_exits,
                    wilson_interval)
from .criteria_table import CriterionRow, compare_criteria
from .curve import Curve
from .headline import KeyFigure, headline
from .sweep import (SweepRow, mean_latency, select, static_rows, sweep_budgets,
                    sweep_rows, whole_curve)

__all__ = ['Contents', 'Labelled', 'MarkedPoint', 'gather']

HELD_OUT, TEST = 'held-out', 'test'


class Labelled(Protocol):
    """Logits (N, K) of each exit, and labels (N,)."""

    logits: Tuple[Tensor, ...]
    labels: Tensor


class MarkedPoint(NamedTuple):
    """What an operating point brings.

    Args:
        name (str): What it was solved for.
        data (str): 'held-out' or 'test'.
        accuracy (float): In [0, 1].
        interval (tuple[float, float]): 95 % interval of the accuracy.
        macs (float): Mean MACs of one sample.
        latency_ms (float, optional): Mean latency by the table.
        shares (tuple[float]): Share of each exit.
        thresholds (tuple[float]): One for each exit but the last.
        criterion (str): What they are compared with.
    """

    name: str
    data: str
    accuracy: float
    interval: Tuple[float, float]
    macs: float
    latency_ms: Optional[float]
    shares: Tuple[float, ...]
    thresholds: Tuple[float, ...]
    criterion: str


class Contents(NamedTuple):
    """All that a report says.

    Args:
        model_name (str): For headings.
        criterion (str): What the curves' thresholds are compared with.
        temperature (tuple[float], optional): Of each exit.
        macs (tuple[float]): Cumulative MACs of each exit.
        latency_ms (tuple[float], optional): Cumulative latency of each exit.
        sizes (dict[str, int]): Number of samples of each data set.
        shown (str): The data set of the pictures.
        judged (HeldOut): Its samples under the criterion.
        rows (list[SweepRow]): The curves.
        criteria (list[CriterionRow]): The comparison of the criteria.
        points (list[MarkedPoint]): The operating points on each data set;
            the first one says which sample left where.
        headline (list[KeyFigure]): What that one brings on the shown data.
        ece (tuple[float]): Expected calibration error of each exit.
        auroc (tuple[float]): Failure-prediction AUROC of each exit.
        exit_index (Tensor): Where each pictured sample leaves (N,).
        conf (Tensor): Confidence (N,) there.
        predicted (Tensor): Class at each exit (num_exits, N).
        labels (Tensor): True classes (N,).
        paths (tuple[str]): Files of the samples, '' where not known.
        unit (str): What a sample is: 'image' or 'clip'. Defaults to 'image'.
        curves (tuple[Curve]): Of other networks. Defaults to none.
    """

    model_name: str
    criterion: str
    temperature: Optional[Tuple[float, ...]]
    macs: Tuple[float, ...]
    latency_ms: Optional[Tuple[float, ...]]
    sizes: Dict[str, int]
    shown: str
    judged: HeldOut
    rows: List[SweepRow]
    criteria: List[CriterionRow]
    points: List[MarkedPoint]
    headline: List[KeyFigure]
    ece: Tuple[float, ...]
    auroc: Tuple[float, ...]
    exit_index: Tensor
    conf: Tensor
    predicted: Tensor
    labels: Tensor
    paths: Tuple[str, ...]
    unit: str = 'image'
    curves: Tuple[Curve, ...] = ()

    @property
    def leading(self) -> MarkedPoint:
        """The first operating point, on the data of the pictures."""
        return next(p for p in self.points if p.data == self.shown)

    def interval(self,
                 accuracy: float,
                 data: Optional[str] = None) -> Tuple[float, float]:
        """95 % interval of an accuracy, in [0, 1].

        Args:
            accuracy (float): In [0, 1].
            data (str, optional): On which data. Defaults to None, those of
                the pictures.
        """
        return accuracy_interval(accuracy, self.sizes[data or self.shown])

    def areas(self) -> Dict[str, Dict[str, float]]:
        """Mean accuracy over the range of MACs: series -> data -> value."""
        found: Dict[str, Dict[str, float]] = {}
        for series in ('search', 'shares', 'random'):
            for data in self.sizes:
                rows = whole_curve(self.rows, series, data)
                found.setdefault(series, {})[data] = area_under_curve(
                    [row.macs for row in rows], [row.accuracy for row in rows])
        return found

    def as_dict(self) -> Dict[str, Any]:
        """The numbers as JSON can hold them."""
        return _plain(
            dict(
                model=self.model_name,
                criterion=self.criterion,
                temperature=self.temperature,
                macs_per_exit=self.macs,
                latency_ms_per_exit=self.latency_ms,
                num_samples=self.sizes,
                judged_on=self.shown,
                headline=[figure._asdict() for figure in self.headline],
                area_under_curve=self.areas(),
                ece=self.ece,
                failure_auroc=self.auroc,
                points=[point._asdict() for point in self.points],
                criteria=[row._asdict() for row in self.criteria],
                rows=[row._asdict() for row in self.rows]))


def accuracy_interval(accuracy: float, size: int) -> Tuple[float, float]:
    """95 % interval of an accuracy in [0, 1] on so many samples."""
    # Rounding must not make more hits than samples.
    return wilson_interval(min(float(size), accuracy * size), size)


def _plain(value: Any) -> Any:
    """What JSON can hold; it knows no NaN."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def gather(held_out: Labelled, test: Optional[Labelled], macs: Sequence[float],
           model_name: str, points: Sequence[Any],
           latency_ms: Optional[Sequence[float]], criterion: Optional[str],
           temperature: Optional[Sequence[float]], num_budgets: int,
           tick: Callable[[], Any]) -> Contents:
    """Compute everything; for the arguments see :func:`write_report`."""
    if criterion is None:
        criterion = points[0].criterion if points else 'max_prob'
        if points and temperature is None:
            temperature = points[0].temperature
    costs = tuple(map(float, macs))
    latency_ms = _check_latency(latency_ms, len(costs))
    sets = {HELD_OUT: held_out, **({} if test is None else {TEST: test})}
    data = {
        name: HeldOut.of(part.logits, part.labels, criterion, temperature)
        for name, part in sets.items()
    }
    rows = static_rows(data, costs, latency_ms)
    budgets = sweep_budgets(costs, num_budgets)
    rows += sweep_rows(data, costs, budgets, latency_ms, tick)
    shown = list(sets)[-1]
    pairs = {name: (part.logits, part.labels) for name, part in sets.items()}
    criteria = compare_criteria(pairs[HELD_OUT], pairs[shown], costs,
                                budgets[::2], tick)
    points = points or [_middle(rows, criterion, temperature)]
    first = points[0]
    chosen = select_exits(sets[shown].logits, first.thresholds,
                          first.criterion, first.temperature)
    judged = data[shown]
    return Contents(
        model_name=model_name,
        criterion=criterion,
        temperature=None if temperature is None else tuple(temperature),
        macs=costs,
        latency_ms=latency_ms,
        sizes={name: len(sets[name].labels)
               for name in sets},
        shown=shown,
        judged=judged,
        rows=rows,
        criteria=criteria,
        points=_mark(points, sets, costs, latency_ms),
        headline=headline(chosen.exit_index, judged.right, costs, latency_ms),
        ece=tuple(expected_calibration_error(*row) for row in zip(*judged)),
        auroc=tuple(failure_auroc(*row) for row in zip(*judged)),
        exit_index=chosen.exit_index,
        conf=chosen.confidence,
        predicted=torch.stack([x.argmax(1) for x in sets[shown].logits]),
        labels=torch.as_tensor(sets[shown].labels),
        paths=tuple(getattr(sets[shown], 'paths', ())))


def _check_latency(latency_ms: Optional[Sequence[float]],
                   num_exits: int) -> Optional[Tuple[float, ...]]:
    """Latencies as numbers, one for each exit."""
    if latency_ms is None:
        return None
    latency_ms = tuple(map(float, latency_ms))
    if len(latency_ms) != num_exits:
        raise ValueError(f'latency_ms must be one number for each of '
                         f'{num_exits} exits, got {latency_ms}')
    return latency_ms


def _middle(rows: Sequence[SweepRow], criterion: str,
            temperature: Optional[Sequence[float]]) -> OperatingPoint:
    """The searched point in the middle, where none is given."""
    found = select(rows, 'search', HELD_OUT)
    row = found[len(found) // 2]
    return OperatingPoint(
        row.thresholds,
        criterion,
        None if temperature is None else tuple(temperature),
        solved_for=dict(budget_macs=row.budget))


def _mark(points: Sequence[Any], sets: Dict[str, Labelled], macs: Tuple[float,
                                                                        ...],
          latency_ms: Optional[Sequence[float]]) -> List[MarkedPoint]:
    """What operating points bring on each data set."""
    marked = []
    for point in points:
        for name, part in sets.items():
            samples = HeldOut.of(part.logits, part.labels, point.criterion,
                                 point.temperature)
            outcome = evaluate(samples, point.thresholds, macs)
            marked.append(
                MarkedPoint(
                    _point_name(point), name, outcome.accuracy,
                    accuracy_interval(outcome.accuracy,
                                      len(part.labels)), outcome.macs,
                    mean_latency(outcome.shares, latency_ms), outcome.shares,
                    tuple(point.thresholds), point.criterion))
    return marked


def _point_name(point: Any) -> str:
    """What an operating point was solved for, in words."""
    wanted = dict(point.solved_for)
    if 'sweep' in wanted:
        return f'{wanted["sweep"]} sweep {wanted.get("index", "")}'.rstrip()
    texts = []
    for key, value in wanted.items():
        if key == 'budget_macs':
            texts.append(f'budget {value / 1e6:.4g} M MACs')
        elif key == 'budget_ms':
            texts.append(f'budget {value:.4g} ms')
        elif key == 'min_accuracy':
            texts.append(f'at least {100 * value:.2f} % held-out')
    return ', '.join(texts) or 'operating point'
