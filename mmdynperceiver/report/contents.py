# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What a report says: all numbers, before anything is drawn."""
import math
from typing import Any, Callable, NamedTuple, Protocol, Sequence

import torch
from torch import Tensor

from ..calibration.held_out import HeldOut, area_under_curve, evaluate
from ..calibration.intervals import wilson_interval
from ..core import OperatingPoint, select_exits
from .criteria_table import CriterionRow, compare_criteria, quality
from .curve import Curve
from .headline import Interval, KeyFigure, headline
from .sweep import (SweepRow, mean_latency, select, static_rows, sweep_budgets,
                    sweep_rows, whole_curve)

__all__ = ['Contents', 'Labelled', 'MarkedPoint', 'gather']

HELD_OUT, TEST = 'held-out', 'test'


class Labelled(Protocol):
    """Logits (N, K) of each exit, and labels (N,)."""

    logits: tuple[Tensor, ...]
    labels: Tensor


class MarkedPoint(NamedTuple):
    """What an operating point brings."""

    name: str  # what it was solved for
    data: str  # 'held-out' or 'test'
    accuracy: float  # in [0, 1]
    interval: Interval  # 95 % interval of the accuracy
    macs: float  # mean of one sample
    latency_ms: float | None  # mean by the table
    shares: tuple[float, ...]  # of each exit
    thresholds: tuple[float, ...]  # one for each exit but the last
    criterion: str  # what they are compared with


class Contents(NamedTuple):
    """All that a report says."""

    model_name: str  # for headings
    criterion: str  # what the curves' thresholds are compared with
    temperature: tuple[float, ...] | None  # of each exit
    macs: tuple[float, ...]  # cumulative, of each exit
    latency_ms: tuple[float, ...] | None  # the same
    sizes: dict[str, int]  # number of samples of each data set
    shown: str  # the data set of the pictures
    judged: HeldOut  # its samples under the criterion
    rows: list[SweepRow]  # the curves
    criteria: list[CriterionRow]
    points: list[MarkedPoint]  # the operating points on each data set
    headline: list[KeyFigure]  # of the first one, on the shown data
    ece: tuple[float, ...]  # expected calibration error of each exit
    auroc: tuple[float, ...]  # failure-prediction AUROC of each exit
    # Where the samples of the pictures leave by the first point (N,), their
    # confidence there, the class at each exit (num_exits, N), and the true one
    exit_index: Tensor
    conf: Tensor
    predicted: Tensor
    labels: Tensor
    paths: tuple[str, ...]  # their files, '' where not known
    unit: str  # what a sample is: 'image' or 'clip'
    curves: tuple[Curve, ...]  # of other networks

    @property
    def shown_points(self) -> list[MarkedPoint]:
        """The operating points on the data of the pictures."""
        return [point for point in self.points if point.data == self.shown]

    def interval(self, accuracy: float) -> Interval:
        """95 % interval of an accuracy in [0, 1] on the shown data."""
        return accuracy_interval(accuracy, self.sizes[self.shown])

    def areas(self) -> dict[str, dict[str, float]]:
        """Mean accuracy over the range of MACs: series -> data -> value."""
        found: dict[str, dict[str, float]] = {}
        for series in ('search', 'shares', 'random'):
            for data in self.sizes:
                rows = whole_curve(self.rows, series, data)
                found.setdefault(series, {})[data] = area_under_curve(
                    [row.macs for row in rows], [row.accuracy for row in rows])
        return found

    def as_dict(self) -> dict[str, Any]:
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


def accuracy_interval(accuracy: float, size: int) -> Interval:
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


def gather(sets: dict[str, Labelled], macs: Sequence[float], model_name: str,
           points: Sequence[Any], latency_ms: Sequence[float] | None,
           criterion: str | None, temperature: Sequence[float] | None,
           num_budgets: int, unit: str, curves: Sequence[Curve],
           tick: Callable[[], Any]) -> Contents:
    """Compute everything; for the arguments see :func:`write_report`.

    ``sets`` holds the held-out samples and, if there are any, the test ones.
    """
    if criterion is None:
        criterion = points[0].criterion if points else 'max_prob'
        if points and temperature is None:
            temperature = points[0].temperature
    temperature = None if temperature is None else tuple(temperature)
    costs = tuple(map(float, macs))
    latency_ms = _check_latency(latency_ms, len(costs))
    data = {
        name: HeldOut.of(part.logits, part.labels, criterion, temperature)
        for name, part in sets.items()
    }
    rows = static_rows(data, costs, latency_ms)
    budgets = sweep_budgets(costs, num_budgets)
    rows += sweep_rows(data, costs, budgets, latency_ms, tick)
    name = list(sets)[-1]
    shown, judged = sets[name], data[name]
    pairs = {name: (part.logits, part.labels) for name, part in sets.items()}
    criteria = compare_criteria(pairs[HELD_OUT], pairs[name], costs,
                                budgets[::2], tick)
    points = points or [_middle(rows, criterion, temperature)]
    first = points[0]
    chosen = select_exits(shown.logits, first.thresholds, first.criterion,
                          first.temperature)
    ece, auroc = quality(judged)
    return Contents(
        model_name=model_name,
        criterion=criterion,
        temperature=temperature,
        macs=costs,
        latency_ms=latency_ms,
        sizes={
            name: len(part.labels)
            for name, part in sets.items()
        },
        shown=name,
        judged=judged,
        rows=rows,
        criteria=criteria,
        points=_mark(points, sets, costs, latency_ms),
        headline=headline(chosen.exit_index, judged.right, costs, latency_ms),
        ece=ece,
        auroc=auroc,
        exit_index=chosen.exit_index,
        conf=chosen.confidence,
        predicted=torch.stack([x.argmax(1) for x in shown.logits]),
        labels=torch.as_tensor(shown.labels),
        paths=tuple(getattr(shown, 'paths', ())),
        unit=unit,
        curves=tuple(curves))


def _check_latency(latency_ms: Sequence[float] | None,
                   num_exits: int) -> tuple[float, ...] | None:
    """Latencies as numbers, one for each exit."""
    if latency_ms is None:
        return None
    latency_ms = tuple(map(float, latency_ms))
    if len(latency_ms) != num_exits:
        raise ValueError(f'latency_ms must be one number for each of '
                         f'{num_exits} exits, got {latency_ms}')
    return latency_ms


def _middle(rows: Sequence[SweepRow], criterion: str,
            temperature: tuple[float, ...] | None) -> OperatingPoint:
    """The searched point in the middle, where none is given."""
    found = select(rows, 'search', HELD_OUT)
    row = found[len(found) // 2]
    return OperatingPoint(
        row.thresholds,
        criterion,
        temperature,
        solved_for=dict(budget_macs=row.budget))


def _mark(points: Sequence[Any], sets: dict[str, Labelled], macs: tuple[float,
                                                                        ...],
          latency_ms: Sequence[float] | None) -> list[MarkedPoint]:
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
    texts = dict(
        budget_macs=lambda value: f'budget {value / 1e6:.4g} M MACs',
        budget_ms=lambda value: f'budget {value:.4g} ms',
        min_accuracy=lambda value: f'at least {100 * value:.2f} % held-out')
    return ', '.join(texts[key](value) for key, value in wanted.items()
                     if key in texts) or 'operating point'
