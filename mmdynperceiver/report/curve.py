# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Accuracy against mean cost: MACs or latency."""
import os
from dataclasses import dataclass
from typing import Any, Optional, Sequence, Tuple, Union

from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from .figure import COLOURS, save_figure

__all__ = ['Curve', 'plot_accuracy_macs']

# Tell curves of one colour apart where there are more curves than colours.
MARKERS = ('o', 's', '^', 'D', 'v', 'P')
LINES = ('-', '--', ':', '-.')

# Cost, accuracy in percent, and name.
Point = Tuple[float, float, str]


@dataclass
class Curve:
    """A named series of operating points.

    Args:
        name (str): Shown in the legend.
        macs (Sequence[float]): Mean MACs of one image; milliseconds where
            it is drawn against latency.
        accuracy (Sequence[float]): Accuracy, or another measure, in percent.
        labels (Sequence[str], optional): Written beside the points; such a
            series is drawn as points, the others as lines. Defaults to None.
        style (str, optional): Matplotlib's format of the line, such as
            ``'--'``. Defaults to None, by ``labels``.
    """

    name: str
    macs: Sequence[float]
    accuracy: Sequence[float]
    labels: Optional[Sequence[str]] = None
    style: Optional[str] = None

    def __post_init__(self) -> None:
        """Check that every point is whole."""
        sizes = {len(self.macs), len(self.accuracy)}
        if self.labels is not None:
            sizes.add(len(self.labels))
        if len(sizes) != 1:
            raise ValueError(f'curve {self.name!r} needs as many MACs as '
                             f'accuracies and labels, got {sorted(sizes)}')


def plot_accuracy_macs(curves: Sequence[Curve],
                       path: Union[str, os.PathLike],
                       title: str = '',
                       chosen: Union[Point, Sequence[Point], None] = None,
                       cost: str = 'macs',
                       measure: str = 'top-1 accuracy') -> None:
    """Draw accuracy against the mean cost of one image.

    Args:
        curves (Sequence[Curve]): At least one.
        path (str | PathLike): PNG file to write.
        title (str): Title of the picture. Defaults to ''.
        chosen (tuple[float, float, str] | Sequence[tuple], optional): Cost,
            accuracy and name of one point to mark, or several such.
            Defaults to None.
        cost (str): What the curves' costs are: 'macs', or 'latency_ms' for
            milliseconds. Defaults to 'macs'.
        measure (str): What the curves' accuracies are, in percent. Defaults
            to 'top-1 accuracy'.

    Raises:
        ValueError: If there is no curve, or no such cost.
    """
    if not any(len(curve.macs) for curve in curves):
        raise ValueError('a picture needs at least one curve with points, got '
                         'none')
    largest = max(max(curve.macs, default=0.) for curve in curves)
    scale, label = _cost_axis(cost, largest)
    # Many curves need their legend beside the picture.
    many = len(curves) + len(_points(chosen)) > 6
    figure = Figure(figsize=(10, 6) if many else (6.2, 4.7))
    axes = figure.add_subplot()
    for number, curve in enumerate(curves):
        lap, colour = divmod(number, len(COLOURS))
        _draw(axes, curve, scale, COLOURS[colour], MARKERS[lap % len(MARKERS)],
              LINES[lap % len(LINES)])
    for x, y, name in _points(chosen):
        axes.plot(
            x / scale,
            y,
            '*',
            color='black',
            markersize=14,
            markeredgecolor='white',
            zorder=3,
            label=name or None)
    axes.set_xlabel(label)
    axes.set_ylabel(f'{measure} (%)')
    axes.set_title(title)
    axes.margins(x=0.15, y=0.15)
    axes.grid(alpha=0.3)
    if many:
        axes.legend(loc='upper left', bbox_to_anchor=(1.01, 1), fontsize=9)
    else:
        axes.legend(loc='best', fontsize=9)
    save_figure(figure, path)


def _points(chosen: Union[Point, Sequence[Point], None]) -> Sequence[Point]:
    """One point, several or none, as a sequence."""
    if chosen and not isinstance(chosen[0], (tuple, list)):
        return [chosen]  # type: ignore[list-item]
    return chosen or ()  # type: ignore[return-value]


def _draw(axes: Any, curve: Curve, scale: float, colour: str, marker: str,
          line: str) -> None:
    """Draw one curve."""
    costs = [value / scale for value in curve.macs]
    style = curve.style
    if style is None:
        # A lone point has no line.
        style = marker if curve.labels is not None else \
            line if len(costs) > 30 else f'{marker}{line}'
    axes.plot(
        costs,
        curve.accuracy,
        style,
        color=colour,
        label=curve.name,
        markersize=8 if curve.labels is not None else 4,
        linewidth=2)
    # Exits that cost about the same must not write over each other: the
    # later one writes above its point.
    span = max(costs, default=0.) - min(costs, default=0.)
    before = float('-inf')
    for x, y, label in zip(costs, curve.accuracy, curve.labels or ()):
        close = x - before < 0.12 * span
        axes.annotate(
            label, (x, y),
            xytext=(6, 7) if close else (6, -14),
            textcoords='offset points',
            color=colour,
            zorder=4,
            path_effects=[withStroke(linewidth=3, foreground='white')])
        before = float('-inf') if close else x


def _cost_axis(cost: str, largest: float) -> Tuple[float, str]:
    """Scale and label of the axis of costs."""
    if cost == 'latency_ms':
        return 1., 'mean latency of one image (ms)'
    if cost != 'macs':
        raise ValueError(f"cost must be 'macs' or 'latency_ms', got {cost!r}")
    scale, unit = (1e9, 'G') if largest >= 1e9 else (1e6, 'M')
    return scale, f'mean MACs of one image ({unit})'
