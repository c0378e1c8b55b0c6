# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Compose digits, a backdrop and things in front of them into an image."""
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .backdrop import Backdrop, Color, to_uint8
from .sources import CELL, GRID, DigitSource

# Sub-pixel bits of the polygon coordinates that OpenCV takes.
_SHIFT = 4
# Change of a stroke field per cell across the edge of a stroke.
_FIELD_SLOPE = 0.9


@dataclass(frozen=True)
class Pose:
    """Where a digit is; all that moves in a clip.

    Args:
        x (float): Horizontal centre of the strokes in pixels; the centre of
            the top left pixel is (0, 0).
        y (float): Vertical centre of the strokes in pixels.
        size (float): Height in pixels of the source digit's 8 cells, which is
            about the height of the strokes before any turn.
        angle (float): Turn in degrees, clockwise as seen. Defaults to 0.
    """
    x: float
    y: float
    size: float
    angle: float = 0.


@dataclass(frozen=True)
class Glyph:
    """One digit as written: what stays the same while it moves.

    Args:
        position (int): Position of the digit in its :class:`DigitSource`.
        ink (tuple[float, float, float]): Colour of the strokes, blue, green,
            red in [0, 1].
        weight (float): Weight of the pen: 0 is thin, 1 is bold. Defaults to
            0.5.
        slant (float): Horizontal shift per unit of height. Defaults to 0.
        stretch (float): Width relative to the source. Defaults to 1.
    """
    position: int
    ink: Color
    weight: float = 0.5
    slant: float = 0.
    stretch: float = 1.


@dataclass(frozen=True)
class Occluder:
    """A convex polygon of one colour in front of the digits.

    Args:
        points (tuple[tuple[float, float], ...]): Corners (x, y) in pixels.
        color (tuple[float, float, float]): Blue, green, red in [0, 1].
    """
    points: tuple[tuple[float, float], ...]
    color: Color


@dataclass(frozen=True)
class Rendered:
    """An image and what can be seen of each digit in it.

    Args:
        image (np.ndarray): Blue, green, red, (H, W, 3), uint8.
        masks (np.ndarray): Visible strokes of each digit, (n, H, W), bool.
        boxes (np.ndarray): x1, y1, x2, y2 around each mask in pixels, ends
            exclusive, (n, 4), float32; zeros if nothing is visible.
    """
    image: np.ndarray
    masks: np.ndarray
    boxes: np.ndarray


def glyph_matrix(source: DigitSource, glyph: Glyph, pose: Pose) -> np.ndarray:
    """Matrix from field samples of a glyph to canvas pixels.

    Args:
        source (DigitSource): Where the glyph is from.
        glyph (Glyph): The digit as written.
        pose (Pose): Where it is.

    Returns:
        np.ndarray: Affine matrix, (2, 3), float64.
    """
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


def half_extent(source: DigitSource, glyph: Glyph,
                pose: Pose) -> tuple[float, float]:
    """Half the width and height in pixels of the box around a posed glyph.

    It bounds the box of the strokes from above, and does not depend on the
    pose's centre.

    Args:
        source (DigitSource): Where the glyph is from.
        glyph (Glyph): The digit as written.
        pose (Pose): Its size and angle.

    Returns:
        tuple[float, float]: Half width and half height.
    """
    matrix = np.abs(glyph_matrix(source, glyph, pose)[:, :2])
    width, height = matrix @ (source.extents[glyph.position] * CELL) / 2
    return float(width), float(height)


def render(
    source: DigitSource,
    backdrop: Backdrop,
    digits: Sequence[tuple[Glyph, Pose]],
    occluders: Sequence[Occluder] = ()
) -> Rendered:
    """Paint digits and occluders on a backdrop.

    Later digits lie over earlier ones and occluders over all. Blur and noise
    belong to the backdrop's style and come last, so frames rendered on one
    backdrop differ only where something moved.

    Args:
        source (DigitSource): Where all glyphs are from.
        backdrop (Backdrop): Canvas, painted once; it is not changed.
        digits (Sequence[tuple[Glyph, Pose]]): What to paint and where. Parts
            outside of the canvas are cut off.
        occluders (Sequence[Occluder]): Things in front. Defaults to none.

    Returns:
        Rendered: Image, and mask and box of each digit, measured before the
        blur: a pixel is a digit's if at least half of it is ink.
    """
    canvas = backdrop.canvas.copy()
    height, width = canvas.shape[:2]
    masks = np.zeros((len(digits), height, width), bool)
    for i, (glyph, pose) in enumerate(digits):
        region, alpha = _stroke_alpha(source, glyph, pose, (height, width))
        if alpha is None:
            continue
        part = canvas[region]
        part[:] = to_uint8(part + (255 * np.float32(glyph.ink) - part) *
                           alpha[..., None])
        ink = alpha >= 0.5
        masks[:i, region[0], region[1]] &= ~ink
        masks[(i, ) + region] = ink
    for occluder in occluders:
        corners = np.round(np.float64(occluder.points) * 2**_SHIFT)
        corners = corners.astype(np.int32)
        color = [255 * channel for channel in occluder.color]
        cv2.fillConvexPoly(canvas, corners, color, cv2.LINE_AA, _SHIFT)
        cover = np.zeros((height, width), np.uint8)
        cv2.fillConvexPoly(cover, corners, 1, cv2.LINE_8, _SHIFT)
        masks &= cover == 0
    boxes = np.zeros((len(digits), 4), np.float32)
    for box, mask in zip(boxes, masks):
        x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
        box[:] = (x, y, x + w, y + h) if w else 0
    return Rendered(backdrop.finish(canvas), masks, boxes)


def _stroke_alpha(source, glyph, pose, shape):
    """Share of ink of each pixel in the part of the canvas a digit covers.

    Returns the part as slices of rows and columns, and the share (h, w) in
    [0, 1], or None where nothing of the digit is on the canvas.
    """
    field = source.fields[glyph.position]
    matrix = glyph_matrix(source, glyph, pose)
    half_w, half_h = half_extent(source, glyph, pose)
    # One cell more: a bold pen writes over the box of the strokes.
    pad = pose.size / GRID + 2
    left = max(int(pose.x - half_w - pad), 0)
    top = max(int(pose.y - half_h - pad), 0)
    right = min(math.ceil(pose.x + half_w + pad) + 1, shape[1])
    bottom = min(math.ceil(pose.y + half_h + pad) + 1, shape[0])
    region = slice(top, bottom), slice(left, right)
    if right <= left or bottom <= top:
        return region, None
    matrix[:, 2] -= left, top
    alpha = cv2.warpAffine(
        field,
        matrix, (right - left, bottom - top),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE)
    # The edge of a stroke is about one pixel wide at any size.
    gain = pose.size / (GRID * _FIELD_SLOPE)
    alpha -= 0.58 - 0.18 * glyph.weight
    alpha *= gain
    alpha += 0.5
    return region, np.clip(alpha, 0, 1, out=alpha)
