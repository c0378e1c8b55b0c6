# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What a report says: all numbers, before anything is drawn."""
import math
from typing import Any, Callable, NamedTuple, Protocol, Sequence

import torch
from torch import Tensor

from ..calibration.confidence import area_under_curve
from ..calibration.intervals import wilson_interval
from ..calibration.outcomes import ExitOutcomes
from ..calibration.risk_control import describe_certificate
from ..core import OperatingPoint, select_exits
from ..core.ensembles import ensemble_logits
from .criteria_table import compare_criteria, quality
from .curve import Curve
from .headline import Interval, headline
from .sweep import (mean_latency, select, static_rows, sweep_budgets,
                    sweep_rows, whole_curve)

__all__ = ['Contents', 'Labelled', 'MarkedPoint']

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
    promise: str  # what is certified on samples to come, or ''


class Contents:
    """All that a report says; for the arguments see :func:`write_report`.

    ``sets`` holds the held-out samples and, if there are any, the test ones;
    the last ones are ``shown``: on them are ``judged`` (under the criterion),
    ``ece``, ``auroc``, ``criteria``, ``headline`` and the pictures.
    """

    def __init__(self, sets: dict[str, Labelled], model_name: str, unit: str,
                 macs: Sequence[float], latency_ms: Sequence[float] | None,
                 points: Sequence[Any], criterion: str | None,
                 temperature: Sequence[float] | None, ensemble: Any,
                 curves: Sequence[Curve], num_budgets: int,
                 tick: Callable[[], Any]) -> None:
        settings = dict(
            criterion='max_prob',
            temperature=None,
            ensemble=None,
            stopping=None)
        if criterion is None and points:
            settings = points[0].settings
        given = dict(
            criterion=criterion,
            temperature=temperature and tuple(temperature),
            ensemble=ensemble)
        settings.update({k: v for k, v in given.items() if v is not None})
        self.model_name, self.unit, self.curves = model_name, unit, curves
        self.settings = settings
        self.criterion = settings['criterion']
        self.temperature = settings['temperature']
        self.macs = tuple(map(float, macs))
        self.latency_ms = _check_latency(latency_ms, len(self.macs))
        self.sizes = {name: len(part.labels) for name, part in sets.items()}
        self.shown = list(sets)[-1]
        data = {
            name: ExitOutcomes.of(part.logits, part.labels, self.macs,
                                  **settings)
            for name, part in sets.items()
        }
        self.judged = data[self.shown]
        self.ece, self.auroc = quality(self.judged)
        budgets = sweep_budgets(self.macs, num_budgets)
        self.rows = static_rows(data, self.latency_ms)
        self.rows += sweep_rows(data[HELD_OUT], data, budgets, self.latency_ms,
                                tick)
        pairs = [(part.logits, part.labels) for part in sets.values()]
        self.criteria = compare_criteria(pairs[0], pairs[-1], self.macs,
                                         budgets[::2], tick)
        points = points or [self._middle()]
        self.points = [
            self._mark(point, name, part) for point in points
            for name, part in sets.items()
        ]
        self._leave(points[0], sets[self.shown])

    def _leave(self, point: Any, shown: Labelled) -> None:
        """Let the samples of the pictures leave by an operating point."""
        self.labels = torch.as_tensor(shown.labels)
        # Files of the samples, '' where not known.
        self.paths = tuple(getattr(shown, 'paths', ()))
        # Classes at each exit (num_exits, N).
        self.predicted = torch.stack([
            x.argmax(1) for x in ensemble_logits(shown.logits, point.ensemble)
        ])
        chosen = select_exits(shown.logits, point.thresholds, **point.settings)
        self.exit_index, self.conf = chosen.exit_index, chosen.confidence
        self.headline = headline(self.exit_index, self.judged.utility,
                                 self.macs, self.latency_ms)

    def _middle(self) -> OperatingPoint:
        """The searched point in the middle, where none is given."""
        found = select(self.rows, 'search', HELD_OUT)
        row = found[len(found) // 2]
        return OperatingPoint(
            row.thresholds,
            solved_for=dict(budget_macs=row.budget),
            **self.settings)

    def _mark(self, point: Any, name: str, part: Labelled) -> MarkedPoint:
        """What an operating point brings on a data set."""
        samples = ExitOutcomes.of(part.logits, part.labels, self.macs,
                                  **point.settings)
        outcome = samples.evaluate(point.thresholds)
        return MarkedPoint(
            _point_name(point), name, outcome.utility,
            self.interval(outcome.utility, name), outcome.cost,
            mean_latency(outcome.shares, self.latency_ms), outcome.shares,
            tuple(point.thresholds), point.criterion,
            describe_certificate(point.certificate)
            if point.certificate else '')

    @property
    def shown_points(self) -> list[MarkedPoint]:
        """The operating points on the data of the pictures."""
        return [point for point in self.points if point.data == self.shown]

    def interval(self, accuracy: float, data: str | None = None) -> Interval:
        """95 % interval of an accuracy in [0, 1], of the shown data or others.
        """
        size = self.sizes[data or self.shown]
        # Rounding must not make more hits than samples.
        return wilson_interval(min(float(size), accuracy * size), size)

    def areas(self) -> dict[str, dict[str, float]]:
        """Mean accuracy over the range of MACs: series -> data -> value."""
        found: dict[str, dict[str, float]] = {}
        for series in ('search', 'shares', 'random'):
            for data in self.sizes:
                rows = whole_curve(self.rows, series, data)
                found.setdefault(series, {})[data] = area_under_curve(
                    [row.macs for row in rows], [row.utility for row in rows])
        return found

    def as_dict(self) -> dict[str, Any]:
        """The numbers as JSON can hold them."""
        return _plain(
            dict(
                model=self.model_name,
                **self.settings,
                macs_per_exit=self.macs,
                latency_ms_per_exit=self.latency_ms,
                num_samples=self.sizes,
                judged_on=self.shown,
                headline=self.headline,
                area_under_curve=self.areas(),
                ece=self.ece,
                failure_auroc=self.auroc,
                points=self.points,
                criteria=self.criteria,
                rows=[row.as_dict() for row in self.rows]))


def _plain(value: Any) -> Any:
    """What JSON can hold: no NaN, and named tuples as dicts."""
    value = value._asdict() if hasattr(value, '_asdict') else value
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


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


def _point_name(point: Any) -> str:
    """What an operating point was solved for, in words."""
    wanted = dict(point.solved_for)
    if 'sweep' in wanted:
        return f'{wanted["sweep"]} sweep {wanted.get("index", "")}'.rstrip()
    texts = dict(
        budget_macs=lambda value: f'budget {value / 1e6:.4g} M MACs',
        budget_ms=lambda value: f'budget {value:.4g} ms',
        min_accuracy=lambda value: f'at least {100 * value:.2f} % held-out',
        exit_accuracy=lambda value: f'right with {100 * value:g} %',
        max_risk=lambda value: f'a risk of at most {100 * value:g} %')
    return ', '.join(texts[key](value) for key, value in wanted.items()
                     if key in texts) or 'operating point'
