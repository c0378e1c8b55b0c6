# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Accuracy against mean MACs."""
import os
from dataclasses import dataclass
from typing import Optional, Sequence, Tuple, Union

from matplotlib.figure import Figure

from .figure import COLOURS, save_figure

__all__ = ['Curve', 'plot_accuracy_macs']


@dataclass
class Curve:
    """A named series of operating points.

    Args:
        name (str): Shown in the legend.
        macs (Sequence[float]): Mean MACs of one image.
        accuracy (Sequence[float]): Top-1 accuracy in percent.
        labels (Sequence[str], optional): Written beside the points; such a
            series is drawn as points, the others as lines. Defaults to None.
    """

    name: str
    macs: Sequence[float]
    accuracy: Sequence[float]
    labels: Optional[Sequence[str]] = None

    def __post_init__(self) -> None:
        """Check that every point is whole."""
        sizes = {len(self.macs), len(self.accuracy)}
        if self.labels is not None:
            sizes.add(len(self.labels))
        if len(sizes) != 1:
            raise ValueError(f'curve {self.name!r} needs as many MACs as '
                             f'accuracies and labels, got {sorted(sizes)}')


def plot_accuracy_macs(
        curves: Sequence[Curve],
        path: Union[str, os.PathLike],
        title: str = '',
        chosen: Optional[Tuple[float, float, str]] = None) -> None:
    """Draw accuracy against mean MACs.

    Args:
        curves (Sequence[Curve]): At least one.
        path (str | PathLike): PNG file to write.
        title (str): Title of the picture. Defaults to ''.
        chosen (tuple[float, float, str], optional): MACs, accuracy and name
            of one point to mark. Defaults to None.

    Raises:
        ValueError: If there is no curve.
    """
    if not curves:
        raise ValueError('a picture needs at least one curve, got none')
    scale, unit = _unit(max(max(curve.macs) for curve in curves))
    figure = Figure(figsize=(7, 4.5))
    axes = figure.add_subplot()
    for curve, colour in zip(curves, COLOURS * len(curves)):
        macs = [value / scale for value in curve.macs]
        style = '-' if curve.labels is None else 'o'
        axes.plot(
            macs,
            curve.accuracy,
            style,
            color=colour,
            label=curve.name,
            markersize=8,
            linewidth=2)
        for x, y, label in zip(macs, curve.accuracy, curve.labels or ()):
            axes.annotate(
                label, (x, y),
                xytext=(6, -13),
                textcoords='offset points',
                color=colour)
    if chosen is not None:
        axes.plot(
            chosen[0] / scale,
            chosen[1],
            '*',
            color='black',
            markersize=15,
            label=chosen[2])
    axes.set_xlabel(f'mean MACs of one image ({unit})')
    axes.set_ylabel('top-1 accuracy (%)')
    axes.set_title(title)
    axes.margins(x=0.12, y=0.15)
    axes.grid(alpha=0.3)
    axes.legend(loc='lower right')
    save_figure(figure, path)


def _unit(largest: float) -> Tuple[float, str]:
    """Scale and name of the unit that suits the largest number of MACs."""
    return (1e9, 'G') if largest >= 1e9 else (1e6, 'M')
