# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The look of a scene: background, texture, clutter, blur and noise.

Colours are blue, green and red in [0, 1]; canvases are (H, W, 3), uint8.
"""
import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from .sources import CELL, GRID, MARGIN, DigitSource

Color = tuple[float, float, float]
# Weight of blue, green and red in the brightness of a colour.
_LUMA = np.float32([0.114, 0.587, 0.299])
# Sub-pixel bits of the coordinates that OpenCV's drawing functions take.
SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class Style:
    """The look of a scene; nothing in it depends on where the digits are."""
    seed: int  # of everything random in painting it
    background: Color  # in the mean
    contrast: float  # brightness of ink minus that of the background
    texture: str = 'plain'  # one of TEXTURES
    texture_strength: float = 0.  # its largest change of brightness
    strokes: int = 0  # number of pen strokes in the background
    pieces: int = 0  # number of pieces of other digits in the background
    clutter_contrast: float = 0.5  # of strokes and pieces, relative to ink
    # Side in pixels of a canvas that one digit fills; the sizes of strokes
    # and pieces are shares of it.
    clutter_unit: float = 64.
    blur: float = 0.  # standard deviation in pixels
    noise: float = 0.  # standard deviation in [0, 1]


class Backdrop:
    """The part of a scene that does not move, painted once for all frames.

    ``canvas`` is the background with texture and clutter, of ``shape`` (H, W)
    in pixels; the pieces in it are of digits of ``source``.
    """

    def __init__(self, style: Style, shape: tuple[int, int],
                 source: DigitSource) -> None:
        if style.texture not in TEXTURES:
            raise ValueError(f'texture must be one of {", ".join(TEXTURES)}, '
                             f'got {style.texture!r}')
        rng = np.random.default_rng(style.seed)
        self._blur = style.blur
        self.canvas = _paint_texture(style, shape, rng)
        for _ in range(style.pieces):
            _paint_piece(self.canvas, style, source, rng)
        for _ in range(style.strokes):
            _paint_stroke(self.canvas, style, rng)
        self._noise = None
        if style.noise > 0:
            noise = rng.standard_normal(shape, dtype=np.float32)
            noise = np.rint(noise * (255 * style.noise)).astype(np.int16)
            self._noise = cv2.merge([noise] * 3)

    def finish(self, image: np.ndarray) -> np.ndarray:
        """Add the style's blur and noise to a composed image."""
        if self._blur > 0:
            image = cv2.GaussianBlur(image, (0, 0), self._blur)
        if self._noise is not None:
            image = cv2.add(image, self._noise, dtype=cv2.CV_8U)
        return image


def luma(color: Color) -> float:
    """Brightness of a colour, in [0, 1]."""
    return float(np.float32(color) @ _LUMA)


def tinted(rng: np.random.Generator,
           brightness: float,
           chroma: float,
           margin: float = 0.) -> Color:
    """Draw a colour of a given brightness.

    The brightness is kept ``margin`` away from 0 and 1. ``chroma`` is the
    distance from grey, in [0, 1], where there is room for it.
    """
    brightness = min(max(brightness, margin), 1 - margin)
    tint = rng.random(3, dtype=np.float32) - 0.5
    tint -= tint @ _LUMA
    tint *= chroma / max(float(np.abs(tint).max()), 1e-6)
    # A colour near black or white has little room for a tint; shrinking the
    # tint rather than cutting channels keeps the brightness exact.
    room = np.where(tint > 0, 1 - brightness, brightness)
    tint *= min(1., float((room / np.maximum(np.abs(tint), 1e-6)).min()))
    blue, green, red = (brightness + tint).tolist()
    return blue, green, red


def to_subpixels(points: np.ndarray) -> np.ndarray:
    """Coordinates in pixels as OpenCV's drawing functions take them."""
    return np.round(points * 2**SUBPIXEL_BITS).astype(np.int32)


def sharpen(field: np.ndarray, threshold: float, gain: float) -> np.ndarray:
    """Turn a warped stroke field, in place, into each pixel's share of ink.

    The edge of the stroke is where the field has the threshold; the gain makes
    it about one pixel wide.
    """
    field -= threshold
    field *= gain
    field += 0.5
    return np.clip(field, 0, 1, out=field)


def blend(part: np.ndarray, color: np.ndarray, share: np.ndarray) -> None:
    """Paint on a part of a canvas with a colour in 0 to 255.

    ``share`` (h, w) says how much of the colour each pixel gets.
    """
    part[:] = _to_uint8(part + (color - part) * share[..., None])


def _to_uint8(pixels):
    """Round and cut values to 0 to 255."""
    return np.clip(pixels + 0.5, 0, 255).astype(np.uint8)


def _paint_texture(style, shape, rng):
    """A canvas of the background's colour with its texture."""
    base = 255 * np.float32(style.background)
    pattern = np.zeros((*shape, 1))
    if style.texture != 'plain' and style.texture_strength > 0:
        pattern = _PATTERNS[style.texture](*shape, rng)
        if pattern.ndim == 2:
            # One pattern for all channels, in a slightly coloured light.
            pattern = pattern[..., None] * rng.uniform(0.6, 1., 3)
    strength = np.float32(255 * style.texture_strength)
    return _to_uint8(base + strength * pattern.astype(np.float32))


def _ramp(height, width, rng):
    """Coordinate along a random direction in canvas heights, (H, W)."""
    angle = rng.uniform(0, 2 * math.pi)
    x = np.arange(width, dtype=np.float32) * (math.cos(angle) / height)
    y = np.arange(height, dtype=np.float32) * (math.sin(angle) / height)
    return y[:, None] + x


def _gradient(height, width, rng):
    ramp = _ramp(height, width, rng)
    low, high = float(ramp.min()), float(ramp.max())
    return (ramp - (low + high) / 2) * (2 / (high - low))


def _cloud(height, width, rng):
    cells = int(rng.integers(3, 7))
    coarse = rng.uniform(-1, 1, (cells, cells, 3)).astype(np.float32)
    fine = rng.uniform(-1, 1, (3 * cells, 3 * cells)).astype(np.float32)
    size = (width, height)
    coarse = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    fine = cv2.resize(fine, size, interpolation=cv2.INTER_LINEAR)
    return 0.75 * coarse + 0.35 * fine[..., None]


def _grain(height, width, rng):
    # Longer than wide, as wood or cloth.
    rows, cols = rng.permutation([12, 40])
    grain = rng.uniform(-1, 1, (rows, cols)).astype(np.float32)
    return cv2.resize(grain, (width, height), interpolation=cv2.INTER_LINEAR)


def _stripes(height, width, rng):
    waves = rng.uniform(2, 8)
    return np.sin(_ramp(height, width, rng) * (2 * math.pi * waves))


def _checks(height, width, rng):
    waves = 2 * math.pi * rng.uniform(1.5, 5)
    down = _ramp(height, width, rng)
    across = _ramp(height, width, rng)
    return np.sign(np.sin(down * waves) * np.sin(across * waves))


# Values about -1 to 1, (H, W) or (H, W, 3).
_PATTERNS: dict[str, Callable[..., np.ndarray]] = dict(
    gradient=_gradient,
    cloud=_cloud,
    grain=_grain,
    stripes=_stripes,
    checks=_checks)
TEXTURES = ('plain', *_PATTERNS)


def _clutter_color(style, rng):
    """Colour of clutter in 0 to 255: on either side of the background."""
    contrast = style.contrast * style.clutter_contrast
    contrast *= rng.uniform(0.5, 1) * rng.choice((-1, 1))
    color = tinted(rng, luma(style.background) + contrast, 0.35, margin=0.02)
    return [255 * channel for channel in color]


def _paint_stroke(canvas, style, rng):
    """A curved pen stroke; curved, so that it is not taken for a one."""
    height, width = canvas.shape[:2]
    unit = style.clutter_unit
    start = rng.random(2) * (width, height)
    angle = rng.uniform(0, 2 * math.pi)
    turn = rng.choice((-1, 1)) * rng.uniform(1.2, 3.)
    step = unit * rng.uniform(0.3, 0.7) / 8
    angles = angle + turn * np.arange(8) / 8
    steps = np.stack([np.cos(angles), np.sin(angles)], 1)
    points = start + np.cumsum(steps, 0) * step
    thick = max(1, round(unit * rng.uniform(0.015, 0.04)))
    cv2.polylines(canvas, [to_subpixels(points)], False,
                  _clutter_color(style, rng), thick, cv2.LINE_AA,
                  SUBPIXEL_BITS)


def _paint_piece(canvas, style, source, rng):
    """About a quarter of another digit: a corner of it, never the whole."""
    height, width = canvas.shape[:2]
    field = source.fields[rng.integers(len(source))]
    half = GRID * CELL // 2
    top, left = MARGIN * CELL + half * rng.integers(0, 2, 2)
    corner = field[top:top + half, left:left + half]
    size = style.clutter_unit * rng.uniform(0.18, 0.32)
    angle = rng.uniform(0, 2 * math.pi)
    scale = size / half
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    side = math.ceil(1.5 * size)
    middle = half / 2 - 0.5
    matrix = np.array([[cos, -sin, side / 2 - (cos - sin) * middle],
                       [sin, cos, side / 2 - (cos + sin) * middle]])
    share = cv2.warpAffine(corner, matrix, (side, side))
    share = sharpen(share, 0.5, size / 4)
    # At most about a third of a piece is beyond the border.
    x = round(rng.uniform(-side / 3, width - side * 2 / 3))
    y = round(rng.uniform(-side / 3, height - side * 2 / 3))
    part = canvas[max(y, 0):y + side, max(x, 0):x + side]
    rows, cols = part.shape[:2]
    blend(part, np.float32(_clutter_color(style, rng)),
          share[max(-y, 0):, max(-x, 0):][:rows, :cols])
