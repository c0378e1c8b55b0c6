# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Compose digits, a backdrop and things in front of them into an image."""
import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from .backdrop import (SUBPIXEL_BITS, Backdrop, Color, blend, sharpen,
                       to_subpixels)
from .sources import CELL, GRID, DigitSource

# Change of a stroke field per cell across the edge of a stroke.
_FIELD_SLOPE = 0.9


class Pose(NamedTuple):
    """Where a digit is; all that moves in a clip."""
    # Centre of the strokes in pixels; that of the top left pixel is (0, 0).
    x: float
    y: float
    # Height in pixels of the source digit's 8 cells, which is about the
    # height of the strokes before any turn.
    size: float
    angle: float = 0.  # in degrees, clockwise as seen


class Glyph(NamedTuple):
    """One digit as written: what stays the same while it moves."""
    position: int  # in its DigitSource
    ink: Color
    weight: float = 0.5  # of the pen: 0 is thin, 1 is bold
    slant: float = 0.  # horizontal shift per unit of height
    stretch: float = 1.  # width relative to the source


class Occluder(NamedTuple):
    """A convex polygon in front of the digits."""
    points: tuple[tuple[float, float], ...]  # corners (x, y) in pixels
    color: Color


class Rendered(NamedTuple):
    """An image and what can be seen of each digit in it."""
    image: np.ndarray  # blue, green, red, (H, W, 3), uint8
    masks: np.ndarray  # visible strokes of each digit, (n, H, W), bool
    # x1, y1, x2, y2 around each mask in pixels, ends exclusive, (n, 4),
    # float32; zeros if nothing is visible.
    boxes: np.ndarray


def _glyph_matrix(source: DigitSource, glyph: Glyph, pose: Pose) -> np.ndarray:
    """Affine matrix (2, 3) from field samples to canvas pixels."""
    scale = pose.size / (GRID * CELL)
    angle = math.radians(pose.angle)
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    # Columns: image of one step to the right and of one step down. A slant
    # moves the top of the digit to the right.
    xx, yx = glyph.stretch * cos, glyph.stretch * sin
    xy, yy = -glyph.slant * cos - sin, -glyph.slant * sin + cos
    u, v = source.centers[glyph.position]
    return np.array([[xx, xy, pose.x - xx * u - xy * v],
                     [yx, yy, pose.y - yx * u - yy * v]])


def half_extent(source: DigitSource, glyph: Glyph, pose: Pose) -> np.ndarray:
    """Half the width and height in pixels of the box around a glyph, (2, ).

    It bounds the box of the strokes from above, and does not depend on the
    pose's centre.
    """
    matrix = np.abs(_glyph_matrix(source, glyph, pose)[:, :2])
    return matrix @ (source.extents[glyph.position] * CELL) / 2


def render(
    source: DigitSource,
    backdrop: Backdrop,
    digits: Sequence[tuple[Glyph, Pose]],
    occluders: Sequence[Occluder] = ()
) -> Rendered:
    """Paint digits and occluders on a backdrop.

    Later digits lie over earlier ones and occluders over all. Blur and noise
    belong to the backdrop's style and come last, so frames rendered on one
    backdrop, which is not changed, differ only where something moved. Masks
    and boxes are measured before the blur: a pixel is a digit's if at least
    half of it is ink.
    """
    canvas = backdrop.canvas.copy()
    shape = canvas.shape[:2]
    masks = np.zeros((len(digits), *shape), bool)
    for i, (glyph, pose) in enumerate(digits):
        region = _region(source, glyph, pose, shape)
        if canvas[region].size:
            share = _ink_share(source, glyph, pose, region)
            blend(canvas[region], 255 * np.float32(glyph.ink), share)
            masks[(slice(i), *region)] &= share < 0.5
            masks[(i, *region)] = share >= 0.5
    for occluder in occluders:
        corners = to_subpixels(np.float64(occluder.points))
        color = [255 * channel for channel in occluder.color]
        cv2.fillConvexPoly(canvas, corners, color, cv2.LINE_AA, SUBPIXEL_BITS)
        cover = np.zeros(shape, np.uint8)
        cv2.fillConvexPoly(cover, corners, 1, cv2.LINE_8, SUBPIXEL_BITS)
        masks &= cover == 0
    boxes = np.zeros((len(digits), 4), np.float32)
    for box, mask in zip(boxes, masks):
        x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
        box[:] = (x, y, x + w, y + h) if w else 0
    return Rendered(backdrop.finish(canvas), masks, boxes)


def _region(source, glyph, pose, shape):
    """Rows and columns of the canvas that a digit may cover, as slices."""
    half_w, half_h = half_extent(source, glyph, pose)
    # One cell more: a bold pen writes over the box of the strokes.
    pad = pose.size / GRID + 2

    def part(centre, half, length):
        return slice(
            min(max(int(centre - half - pad), 0), length),
            max(min(math.ceil(centre + half + pad) + 1, length), 0))

    return part(pose.y, half_h, shape[0]), part(pose.x, half_w, shape[1])


def _ink_share(source, glyph, pose, region):
    """Share of ink of each pixel in a region of the canvas, (h, w)."""
    rows, cols = region
    matrix = _glyph_matrix(source, glyph, pose)
    matrix[:, 2] -= cols.start, rows.start
    field = cv2.warpAffine(
        source.fields[glyph.position],
        matrix, (cols.stop - cols.start, rows.stop - rows.start),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE)
    # The edge of a stroke is about one pixel wide at any size.
    return sharpen(field, 0.58 - 0.18 * glyph.weight,
                   pose.size / (GRID * _FIELD_SLOPE))
