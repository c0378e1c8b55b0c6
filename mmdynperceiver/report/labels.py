# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Names beside the points of a plot that do not write over each other."""
from typing import Any, Iterator, List, NamedTuple, Sequence, Tuple

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


class Label(NamedTuple):
    """A text that belongs to a point, or to any one of several.

    Args:
        points (Sequence[tuple[float, float]]): In the plot's own units, the
            best one first.
        text (str): What is written.
        colour (str): Of the text.
        bold (bool): Whether it is. Defaults to False.
    """

    points: Sequence[Tuple[float, float]]
    text: str
    colour: str
    bold: bool = False


def place_labels(axes: Any,
                 labels: Sequence[Label],
                 lines: Sequence[Any] = (),
                 size: float = 9) -> List[Any]:
    """Write each label where it covers least, always at the same place.

    One label after another takes the best of the places around its point.
    The plot must be complete: nothing of it moves from here on.

    Args:
        axes (Axes): The plot.
        labels (Sequence[Label]): In order of importance.
        lines (Sequence[array]): Courses (N, 2) that should stay free.
            Defaults to none.
        size (float): Of the text in points. Defaults to 9.

    Returns:
        list[Annotation]: One for each label.
    """
    scale = settle(axes.figure).dpi / 72
    anchors = [axes.transData.transform(label.points) for label in labels]
    points = np.concatenate([np.empty((0, 2)), *anchors])
    courses = np.concatenate([
        np.empty((0, 2)),
        *(_course(axes.transData.transform(line), scale) for line in lines)
    ])
    frame, taken, written = axes.get_window_extent(), [], []
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
        _, place, box = min(
            ((_cost(place, frame, taken, points, courses,
                    scale), place, place.box)
             for place in _places(own, text.get_window_extent(), scale)),
            key=lambda found: found[0])
        text.xy = label.points[place.point]
        text.set_position(tuple(place.shift / scale))
        if place.distance > _NEAR:
            _lead(axes, label.points[place.point], place, scale)
            courses = np.concatenate([courses, place.lead(scale)])
        taken.append(box)
        written.append(text)
    return written


class _Place(NamedTuple):
    """Where a label may stand, in pixels but for the distance.

    Args:
        point (int): Number of its point.
        pixel (ndarray): Where that is.
        shift (ndarray): From there to the centre of the label.
        box (Bbox): The label.
        distance (float): From the point to the label, in 1/72 inch.
    """

    point: int
    pixel: Any
    shift: Any
    box: Bbox
    distance: float

    def lead(self, scale: float) -> Any:
        """Course of the line from the point to a label that is far away."""
        if self.distance <= _NEAR:
            return np.empty((0, 2))
        end = np.clip(self.pixel, self.box.min, self.box.max)
        return _course(np.array([self.pixel, end]), scale)


def _places(anchors: Any, extent: Bbox, scale: float) -> Iterator[_Place]:
    """All places of a label."""
    half = np.array([extent.width, extent.height]) / 2
    for number, point in enumerate(anchors):
        for distance in _DISTANCES:
            for side in _SIDES:
                # As far from a corner as from a side.
                away = distance * scale * (0.7 if side[0]**2 == 1 == side[1]**2
                                           else 1)
                shift = np.array(side) * (half + away)
                yield _Place(
                    number, point, shift,
                    Bbox([point + shift - half, point + shift + half]),
                    distance)


def _lead(axes: Any, point: Any, place: _Place, scale: float) -> None:
    """Draw a line from a point to its label."""
    end = np.clip(place.pixel, place.box.min, place.box.max)
    axes.annotate(
        '',
        point,
        xytext=tuple((end - place.pixel) / scale),
        textcoords='offset points',
        zorder=4,
        arrowprops=dict(
            arrowstyle='-', color=SOFT, linewidth=0.7, shrinkA=0, shrinkB=3))


def _cost(place: _Place, frame: Bbox, taken: Sequence[Bbox], points: Any,
          courses: Any, scale: float) -> float:
    """How far away a label would be, and how much it would cover."""
    box, wide = place.box, place.box.padded(2 * scale)
    cost = place.distance + _LABEL * sum(
        wide.overlaps(other) for other in taken)
    if not (frame.contains(*box.min) and frame.contains(*box.max)):
        cost += _LABEL
    cost += _POINT * _inside(points, box.padded(4 * scale))
    cost += _LINE * _inside(courses, box)
    lead = place.lead(scale)
    cost += _CROSSED * sum(_inside(lead, other) for other in taken)
    others = points[np.hypot(*(points - place.pixel).T) > scale]
    return cost + _POINT / 4 * sum(
        np.hypot(*(lead - point).T).min(initial=np.inf) < 5 * scale
        for point in others)


def _inside(points: Any, box: Bbox) -> int:
    """How many points lie in a box."""
    return int(((points > box.min) & (points < box.max)).all(1).sum())


def _course(corners: Any, scale: float) -> Any:
    """Points along a line, 1/72 inch from each other."""
    parts = [corners]
    for start, end in zip(corners, corners[1:]):
        count = int(np.hypot(*(end - start)) / scale)
        parts.append(start + np.linspace(0, 1, max(count, 1))[:, None] *
                     (end - start))
    return np.concatenate(parts)
