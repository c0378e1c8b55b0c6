# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Accuracy against mean cost: MACs or latency."""
import os
from dataclasses import dataclass
from typing import Any, Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure

from .figure import COLOURS, INK, PAPER, save_figure, styled
from .labels import Label, place_labels

__all__ = ['Curve', 'cost_axis', 'plot_accuracy_macs']

# Tell curves of one colour apart where there are more curves than colours.
MARKERS = ('o', 's', '^', 'D', 'v', 'P')
# Tell marked points apart.
STARS = ('*', 'P', 'X', 'D', 'p', 'h')
LINES = ('-', '--', ':', '-.')
# Inches; a phone shows the narrow ones with print of 11 pixels and more. Names
# of networks beside their points take more room than a legend below.
WIDE, NARROW, NAMED = (7.2, 4.9), (3.6, 4.2), (9., 6.)

# Cost, accuracy in percent, and name.
Point = tuple[float, float, str]


@dataclass
class Curve:
    """A named series of operating points.

    Args:
        name (str): Shown in the legend.
        macs (Sequence[float]): Mean MACs of one image; milliseconds where
            it is drawn against latency.
        accuracy (Sequence[float]): Accuracy, or another measure, in percent.
        labels (Sequence[str], optional): Written beside the points; such a
            series is drawn as points, the others as lines.
        style (str, optional): Matplotlib's format of the line, such as
            ``'--'``. Defaults to None, by ``labels``.
        intervals (Sequence[tuple[float, float]], optional): Ends of the
            95 % interval of each accuracy: a band around a line, bars at
            points.
        colour (str, optional): Defaults to None, the next one.
    """

    name: str
    macs: Sequence[float]
    accuracy: Sequence[float]
    labels: Sequence[str] | None = None
    style: str | None = None
    intervals: Sequence[tuple[float, float]] | None = None
    colour: str | None = None

    def __post_init__(self) -> None:
        """Check that every point is whole."""
        parts = (self.macs, self.accuracy, self.labels, self.intervals)
        sizes = {len(part) for part in parts if part is not None}
        if len(sizes) != 1:
            raise ValueError(f'curve {self.name!r} needs as many MACs as '
                             f'accuracies and labels, got {sorted(sizes)}')


@styled()
def plot_accuracy_macs(curves: Sequence[Curve],
                       path: str | os.PathLike | None = None,
                       title: str = '',
                       chosen: Point | Sequence[Point] | None = None,
                       cost: str = 'macs',
                       measure: str = 'top-1 accuracy',
                       unit: str = 'image',
                       narrow: bool = False,
                       legend: bool = True) -> Figure:
    """Draw accuracy against the mean cost of one image.

    Args:
        curves (Sequence[Curve]): At least one with points.
        path (str | PathLike, optional): PNG or SVG file to write.
        title (str): Of the picture.
        chosen (tuple[float, float, str] | Sequence[tuple], optional): Cost,
            accuracy and name of one point to mark, or several such.
        cost (str): What the curves' costs are: 'macs', or 'latency_ms' for
            milliseconds.
        measure (str): What the curves' accuracies are, in percent.
        unit (str): What the network takes, 'image' or 'clip'.
        narrow (bool): Whether it is for a phone.
        legend (bool): Whether a legend names the curves; else their names
            stand beside their last points.

    Raises:
        ValueError: If there is no curve, or no such cost.
    """
    if not any(len(curve.macs) for curve in curves):
        raise ValueError('a picture needs at least one curve with points, got '
                         'none')
    largest = max(macs for curve in curves for macs in curve.macs)
    scale, label = cost_axis(cost, largest, unit)
    points: Any = chosen or ()
    if points and not isinstance(points[0], (tuple, list)):
        points = [points]
    figure, axes = _empty(
        len(curves) + len(points) if legend else 0, narrow, title)
    labels = [
        label for number, curve in enumerate(curves)
        for label in _draw(axes, curve, scale, number, legend)
    ]
    labels += _mark(axes, points, scale, legend)
    axes.set(xlabel=label, ylabel=f'{measure} (%)')
    axes.margins(x=0.07, y=0.12 if legend else 0.2)
    if legend:
        figure.legend(
            loc='outside lower left', fontsize=9, ncols=1 if narrow else 2)
    place_labels(
        axes, labels,
        [course for curve in curves for course in _courses(curve, scale)])
    return save_figure(figure, path)


def _empty(entries: int, narrow: bool, title: str) -> tuple[Figure, Any]:
    """A figure with room for the entries of a legend, and its axes."""
    width, height = NARROW if narrow else WIDE if entries else NAMED
    rows = entries if narrow else -(-entries // 2)
    figure = Figure((width, height + 0.18 * rows), layout='constrained')
    axes = figure.add_subplot()
    axes.set_title(title, wrap=True)
    axes.grid(True)
    axes.set_axisbelow(True)
    return figure, axes


def _mark(axes: Any, points: Sequence[Point], scale: float,
          legend: bool) -> Iterator[Label]:
    """Mark chosen points; their names, if these stand beside them."""
    for number, (x, y, name) in enumerate(points):
        in_legend = name and legend
        axes.plot(
            x / scale,
            y,
            STARS[number % len(STARS)] if in_legend else '*',
            color=INK,
            markersize=14,
            markeredgecolor=PAPER,
            zorder=3,
            label=name if in_legend else '_')
        if name and not legend:
            yield Label([(x / scale, y)], name, INK)


def _draw(axes: Any, curve: Curve, scale: float, number: int,
          legend: bool) -> list[Label]:
    """Draw one curve; what is to be written beside its points."""
    lap, index = divmod(number, len(COLOURS))
    colour = curve.colour or COLOURS[index]
    marker, line = MARKERS[lap % len(MARKERS)], LINES[lap % len(LINES)]
    costs = [value / scale for value in curve.macs]
    style = curve.style
    if style is None:
        # A lone point has no line.
        style = marker if curve.labels is not None else \
            line if len(costs) > 30 else f'{marker}{line}'
    # Points of a line are small, others not.
    size = 8 if curve.labels is not None or len(costs) == 1 else 4
    axes.plot(
        costs,
        curve.accuracy,
        style,
        color=colour,
        # Matplotlib leaves out names that begin with an underscore.
        label=curve.name.lstrip('_') if legend else '_',
        markersize=14 if style == '*' else size,
        linewidth=2.2 if curve.labels is None else 0.8)
    if curve.intervals is not None:
        _draw_intervals(axes, curve, costs, colour)
    points = list(zip(costs, curve.accuracy))
    beside = [
        Label([point], text, INK if legend else colour)
        for point, text in zip(points, curve.labels or ()) if text
    ]
    if costs and curve.name and not legend:
        beside.insert(0, Label(points[::-1], curve.name, colour, True))
    return beside


def _draw_intervals(axes: Any, curve: Curve, costs: Sequence[float],
                    colour: str) -> None:
    """Draw how far the accuracies may be off."""
    assert curve.intervals is not None
    low, high = np.transpose(curve.intervals)
    if curve.labels is None:
        shade = dict(color=colour, alpha=0.18, linewidth=0)
        axes.fill_between(costs, low, high, label='its 95 % interval', **shade)
    else:
        accuracy = np.asarray(curve.accuracy)
        ends = np.maximum((accuracy - low, high - accuracy), 0)
        bars = dict(ecolor=colour, elinewidth=1.2, capsize=3)
        axes.errorbar(costs, accuracy, ends, fmt='none', **bars)


def _courses(curve: Curve, scale: float) -> list[Any]:
    """Lines that no label should cover: the curve, or its points' bars."""
    costs = np.divide(curve.macs, scale)
    courses = [np.column_stack([costs, curve.accuracy])]
    if curve.labels is not None:
        courses = [] if curve.style is None else courses
        courses += [
            np.column_stack([[x, x], ends])
            for x, ends in zip(costs, curve.intervals or ())
        ]
    return [course for course in courses if len(course)]


def cost_axis(cost: str,
              largest: float,
              unit: str = 'image') -> tuple[float, str]:
    """Scale and label of the axis of 'macs' or of 'latency_ms'."""
    if cost == 'latency_ms':
        return 1., f'mean latency of one {unit} (ms)'
    if cost != 'macs':
        raise ValueError(f"cost must be 'macs' or 'latency_ms', got {cost!r}")
    scale, prefix = (1e9, 'G') if largest >= 1e9 else (1e6, 'M')
    return scale, f'mean MACs of one {unit} ({prefix})'
