# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What a report says: all numbers, before anything is drawn."""
import math
from typing import (Any, Callable, Dict, List, NamedTuple, Optional, Protocol,
                    Sequence, Tuple)

import torch
from torch import Tensor

from ..core import (HeldOut, area_under_curve, evaluate,
                    expected_calibration_error, failure_auroc, select_exits)
from .criteria_table import CriterionRow, compare_criteria
from .curve import Curve
from .sweep import (SweepRow, mean_latency, select, static_rows, sweep_budgets,
                    sweep_rows)

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
        macs (float): Mean MACs of one sample.
        latency_ms (float, optional): Mean latency by the table.
        shares (tuple[float]): Share of each exit.
        thresholds (tuple[float]): One for each exit but the last.
        criterion (str): What they are compared with.
    """

    name: str
    data: str
    accuracy: float
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
        points (list[MarkedPoint]): The operating points on each data set.
        ece (tuple[float]): Expected calibration error of each exit.
        auroc (tuple[float]): Failure-prediction AUROC of each exit.
        exit_index (Tensor): Where each pictured sample leaves (N,).
        conf (Tensor): Confidence (N,) there.
        predicted (Tensor): Class at each exit (num_exits, N).
        labels (Tensor): True classes (N,).
        paths (tuple[str]): Files of the samples, '' where not known.
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
    ece: Tuple[float, ...]
    auroc: Tuple[float, ...]
    exit_index: Tensor
    conf: Tensor
    predicted: Tensor
    labels: Tensor
    paths: Tuple[str, ...]
    curves: Tuple[Curve, ...] = ()

    def areas(self) -> Dict[str, Dict[str, float]]:
        """Mean accuracy over the range of MACs: series -> data -> value."""
        found: Dict[str, Dict[str, float]] = {}
        for series in ('search', 'shares', 'random'):
            for data in self.sizes:
                exits = select(self.rows, 'exit', data)
                rows = [exits[0], *select(self.rows, series, data), exits[-1]]
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
                area_under_curve=self.areas(),
                ece=self.ece,
                failure_auroc=self.auroc,
                points=[point._asdict() for point in self.points],
                criteria=[row._asdict() for row in self.criteria],
                rows=[row._asdict() for row in self.rows]))


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
    costs = tuple(float(value) for value in macs)
    if latency_ms is not None:
        latency_ms = tuple(float(value) for value in latency_ms)
        if len(latency_ms) != len(costs):
            raise ValueError(f'latency_ms must be one number for each of '
                             f'{len(costs)} exits, got {latency_ms}')
    sets = {HELD_OUT: held_out}
    if test is not None:
        sets[TEST] = test
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
    leaving = _leaving(rows, points, criterion, temperature)
    chosen = select_exits(sets[shown].logits, *leaving)
    judged = data[shown]
    return Contents(
        model_name, criterion,
        None if temperature is None else tuple(temperature), costs, latency_ms,
        {
            name: len(part.labels)
            for name, part in sets.items()
        }, shown, judged, rows, criteria, [
            _mark(point, name, part, costs, latency_ms) for point in points
            for name, part in sets.items()
        ], tuple(expected_calibration_error(*row) for row in zip(*judged)),
        tuple(failure_auroc(*row)
              for row in zip(*judged)), chosen.exit_index, chosen.confidence,
        torch.stack([x.argmax(1) for x in sets[shown].logits]),
        torch.as_tensor(sets[shown].labels),
        tuple(getattr(sets[shown], 'paths', ())))


def _leaving(rows: Sequence[SweepRow], points: Sequence[Any], criterion: str,
             temperature: Optional[Sequence[float]]) -> Tuple[Any, ...]:
    """Thresholds, criterion and temperature of the gallery."""
    if points:
        point = points[0]
        return point.thresholds, point.criterion, point.temperature
    found = select(rows, 'search', HELD_OUT)
    return found[len(found) // 2].thresholds, criterion, temperature


def _mark(point: Any, name: str, part: Labelled, macs: Tuple[float, ...],
          latency_ms: Optional[Sequence[float]]) -> MarkedPoint:
    """What an operating point brings on a data set."""
    samples = HeldOut.of(part.logits, part.labels, point.criterion,
                         point.temperature)
    outcome = evaluate(samples, point.thresholds, macs)
    return MarkedPoint(
        _point_name(point), name, outcome.accuracy, outcome.macs,
        mean_latency(outcome.shares, latency_ms), outcome.shares,
        tuple(point.thresholds), point.criterion)


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
