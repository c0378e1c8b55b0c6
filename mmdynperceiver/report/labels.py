# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Names beside the points of a plot that do not write over each other."""
import itertools
from typing import Any, Iterator, NamedTuple, Sequence

import numpy as np
from matplotlib.transforms import Bbox

from .figure import PAPER, SOFT, settle

__all__ = ['Label', 'place_labels']

# Where a label may stand: which corner or side of it is next to the point.
_SIDES = ((1, 0), (1, 1), (1, -1), (-1, 0), (-1, 1), (-1, -1), (0, 1), (0, -1),
          (.5, 1), (.5, -1), (-.5, 1), (-.5, -1))
_DISTANCES = (7, 13, 20, 30, 42, 56, 72)
# Further away than this a line leads to the point.
_NEAR = 14
# What it costs to cover another label or the frame, a point, or 1/72 inch of
# a line, and to cross 1/72 inch of a label by the line from the point; the
# distance in 1/72 inch counts once.
_LABEL, _POINT, _LINE, _CROSSED = 1e6, 1e3, 6., 20.
_NOWHERE = np.empty((0, 2))


class Label(NamedTuple):
    """A text that belongs to a point, or to any one of several."""

    # In the plot's own units, the best one first.
    points: Sequence[tuple[float, float]]
    text: str
    colour: str
    bold: bool = False


class _Place(NamedTuple):
    """Where a label may stand, in pixels but for the distance (1/72 inch)."""

    point: int  # its number
    shift: Any  # from there to the centre of the label
    box: Bbox
    distance: float  # from the point to the label
    lead: Any  # course of the line there, if it is far away


def place_labels(axes: Any,
                 labels: Sequence[Label],
                 lines: Sequence[Any] = (),
                 size: float = 9) -> list[Any]:
    """Write each label where it covers least; give the annotations.

    One label after another takes the best of the places around its point.
    The plot must be complete: nothing of it moves from here on.

    Args:
        axes (Axes): The plot.
        labels (Sequence[Label]): In order of importance.
        lines (Sequence[array]): Courses (N, 2) that should stay free.
        size (float): Of the text in points.
    """
    scale = settle(axes.figure).dpi / 72
    to_pixels = axes.transData.transform
    anchors = [to_pixels(label.points) for label in labels]
    points = np.concatenate([_NOWHERE, *anchors])
    courses = np.concatenate(
        [_NOWHERE, *(_course(to_pixels(line), scale) for line in lines)])
    frame, written = axes.get_window_extent(), []
    taken: list[Bbox] = []
    for label, own in zip(labels, anchors):
        text = axes.annotate(
            label.text,
            label.points[0],
            xytext=(0, 0),
            textcoords='offset points',
            color=label.colour,
            fontsize=size,
            fontweight='bold' if label.bold else 'normal',
            ha='center',
            va='center',
            zorder=5,
            bbox=dict(facecolor=PAPER, edgecolor='none', alpha=0.7, pad=0.5))
        place = min(
            _places(own, text.get_window_extent(), scale),
            key=lambda place: _cost(place, own, frame, taken, points, courses,
                                    scale))
        text.xy = label.points[place.point]
        text.set_position(tuple(place.shift / scale))
        if len(place.lead):
            _draw_lead(axes, text.xy, place.lead, scale)
            courses = np.concatenate([courses, place.lead])
        taken.append(place.box)
        written.append(text)
    return written


def _draw_lead(axes: Any, point: Any, lead: Any, scale: float) -> None:
    """Draw the line from a point to its label."""
    arrow = dict(
        arrowstyle='-', color=SOFT, linewidth=0.7, shrinkA=0, shrinkB=3)
    axes.annotate(
        '',
        point,
        xytext=tuple((lead[1] - lead[0]) / scale),
        textcoords='offset points',
        zorder=4,
        arrowprops=arrow)


def _places(anchors: Any, extent: Bbox, scale: float) -> Iterator[_Place]:
    """All places of a label."""
    half = np.array([extent.width, extent.height]) / 2
    for (number, point), distance, (x, y) in itertools.product(
            enumerate(anchors), _DISTANCES, _SIDES):
        # As far from a corner as from a side.
        away = distance * scale * (0.7 if x**2 == 1 == y**2 else 1)
        shift = np.array((x, y)) * (half + away)
        low, high = point + shift - half, point + shift + half
        ends = np.array([point, np.clip(point, low, high)])
        lead = _course(ends, scale) if distance > _NEAR else _NOWHERE
        yield _Place(number, shift, Bbox([low, high]), distance, lead)


def _cost(place: _Place, own: Any, frame: Bbox, taken: Sequence[Bbox],
          points: Any, courses: Any, scale: float) -> float:
    """How far away a label would be, and how much it would cover."""
    box, wide, lead = place.box, place.box.padded(2 * scale), place.lead
    covered = sum(wide.overlaps(other) for other in taken)
    covered += not (frame.contains(*box.min) and frame.contains(*box.max))
    cost = place.distance + _LABEL * covered
    cost += _POINT * _inside(points, box.padded(4 * scale))
    cost += _LINE * _inside(courses, box)
    cost += _CROSSED * sum(_inside(lead, other) for other in taken)
    others = points[np.hypot(*(points - own[place.point]).T) > scale]
    return cost + _POINT / 4 * sum(
        np.hypot(*(lead - point).T).min(initial=np.inf) < 5 * scale
        for point in others)


def _inside(points: Any, box: Bbox) -> int:
    """How many points lie in a box."""
    return int(((points > box.min) & (points < box.max)).all(1).sum())


def _course(corners: Any, scale: float) -> Any:
    """Points along a line, its corners first, 1/72 inch from each other."""
    parts = [corners]
    for start, end in zip(corners, corners[1:]):
        count = max(int(np.hypot(*(end - start)) / scale), 1)
        parts.append(np.linspace(start, end, count))
    return np.concatenate(parts)
