# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The look of a scene: background, texture, clutter, blur and noise."""
import math
from dataclasses import dataclass

import cv2
import numpy as np

from .sources import CELL, GRID, DigitSource

Color = tuple[float, float, float]
TEXTURES = ('plain', 'gradient', 'cloud', 'grain', 'stripes', 'checks')
# Weight of blue, green and red in the brightness of a colour.
_LUMA = np.float32([0.114, 0.587, 0.299])
# Sub-pixel bits of the curve coordinates that OpenCV takes.
_SHIFT = 4


@dataclass(frozen=True)
class Style:
    """The look of a scene; nothing in it depends on where the digits are.

    Args:
        seed (int): Everything random in painting the look follows from it.
        background (tuple[float, float, float]): Mean colour, blue, green, red
            in [0, 1].
        contrast (float): Brightness of ink minus brightness of the
            background, in [-1, 1].
        texture (str): One of :data:`TEXTURES`. Defaults to 'plain'.
        texture_strength (float): Largest change of brightness that the
            texture makes, in [0, 1]. Defaults to 0.
        strokes (int): Number of pen strokes in the background. Defaults to 0.
        pieces (int): Number of pieces of other digits in the background.
            Defaults to 0.
        clutter_contrast (float): Contrast of strokes and pieces relative to
            that of ink. Defaults to 0.5.
        clutter_unit (float): Length in pixels that the sizes of strokes and
            pieces are shares of: the side of a canvas that one digit fills.
            Defaults to 64.
        blur (float): Standard deviation of the blur in pixels. Defaults to 0.
        noise (float): Standard deviation of the noise, in [0, 1]. Defaults
            to 0.
    """
    seed: int
    background: Color
    contrast: float
    texture: str = 'plain'
    texture_strength: float = 0.
    strokes: int = 0
    pieces: int = 0
    clutter_contrast: float = 0.5
    clutter_unit: float = 64.
    blur: float = 0.
    noise: float = 0.


class Backdrop:
    """The part of a scene that does not move, painted once for all frames.

    Args:
        style (Style): The look.
        shape (tuple[int, int]): Height and width of the canvas in pixels.
        source (DigitSource): Where the pieces of other digits come from.

    Attributes:
        style (Style): The look.
        canvas (np.ndarray): Background with texture and clutter, (H, W, 3),
            uint8, blue, green, red.

    Raises:
        ValueError: If the style's texture is unknown.
    """

    def __init__(self, style: Style, shape: tuple[int, int],
                 source: DigitSource) -> None:
        if style.texture not in TEXTURES:
            raise ValueError(f'texture must be one of {", ".join(TEXTURES)}, '
                             f'got {style.texture!r}')
        rng = np.random.default_rng(style.seed)
        self.style = style
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
        """Add the style's blur and noise to a composed image.

        Args:
            image (np.ndarray): Composed image, (H, W, 3), uint8.

        Returns:
            np.ndarray: The finished image, (H, W, 3), uint8.
        """
        if self.style.blur > 0:
            image = cv2.GaussianBlur(image, (0, 0), self.style.blur)
        if self._noise is not None:
            image = cv2.add(image, self._noise, dtype=cv2.CV_8U)
        return image


def luma(color: Color) -> float:
    """Brightness of a colour.

    Args:
        color (tuple[float, float, float]): Blue, green, red in [0, 1].

    Returns:
        float: Brightness in [0, 1].
    """
    return float(np.float32(color) @ _LUMA)


def tinted(rng: np.random.Generator, brightness: float,
           chroma: float) -> Color:
    """Draw a colour of a given brightness.

    Args:
        rng (np.random.Generator): Source of randomness.
        brightness (float): Brightness in [0, 1].
        chroma (float): Distance from grey before the colour is cut to the
            valid range, in [0, 1].

    Returns:
        tuple[float, float, float]: Blue, green, red in [0, 1].
    """
    tint = rng.random(3, dtype=np.float32) - 0.5
    tint -= tint @ _LUMA
    tint *= chroma / max(float(np.abs(tint).max()), 1e-6)
    # A colour near black or white has little room for a tint; shrinking the
    # tint rather than cutting channels keeps the brightness exact.
    room = np.where(tint > 0, 1 - brightness, brightness)
    tint *= min(1., float((room / np.maximum(np.abs(tint), 1e-6)).min()))
    blue, green, red = (brightness + tint).tolist()
    return blue, green, red


def to_uint8(pixels: np.ndarray) -> np.ndarray:
    """Round and cut values to 0 to 255.

    Args:
        pixels (np.ndarray): Values of any shape.

    Returns:
        np.ndarray: The same shape, uint8.
    """
    return np.clip(pixels + 0.5, 0, 255).astype(np.uint8)


def _paint_texture(style, shape, rng):
    """Background colour with its texture, (H, W, 3), uint8."""
    height, width = shape
    base = 255 * np.float32(style.background)
    if style.texture == 'plain' or style.texture_strength <= 0:
        return np.broadcast_to(to_uint8(base), (height, width, 3)).copy()
    pattern = _PATTERNS[style.texture](height, width, rng)
    if pattern.ndim == 2:
        # One pattern for all channels, in a slightly coloured light.
        pattern = pattern[..., None] * rng.uniform(0.6, 1., 3)
    strength = np.float32(255 * style.texture_strength)
    return to_uint8(base + strength * pattern.astype(np.float32))


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


_PATTERNS = dict(
    gradient=_gradient,
    cloud=_cloud,
    grain=_grain,
    stripes=_stripes,
    checks=_checks)


def _clutter_color(style, rng):
    """Colour of clutter in 0 to 255: on either side of the background."""
    contrast = style.contrast * style.clutter_contrast
    contrast *= rng.uniform(0.5, 1) * rng.choice((-1, 1))
    brightness = luma(style.background) + contrast
    color = tinted(rng, min(max(brightness, 0.02), 0.98), 0.35)
    return [255 * channel for channel in color]


def _paint_stroke(canvas, style, rng):
    """A curved pen stroke; curved, so that it is not taken for a one."""
    height, width = canvas.shape[:2]
    unit = style.clutter_unit
    x, y = rng.random(2) * (width, height)
    angle = rng.uniform(0, 2 * math.pi)
    turn = rng.choice((-1, 1)) * rng.uniform(1.2, 3.)
    step = unit * rng.uniform(0.3, 0.7) / 8
    angles = angle + turn * np.arange(8) / 8
    points = np.stack([
        x + np.cumsum(np.cos(angles)) * step,
        y + np.cumsum(np.sin(angles)) * step,
    ], 1)
    thick = max(1, round(unit * rng.uniform(0.015, 0.04)))
    cv2.polylines(canvas,
                  [np.round(points * 2**_SHIFT).astype(np.int32)], False,
                  _clutter_color(style, rng), thick, cv2.LINE_AA, _SHIFT)


def _paint_piece(canvas, style, source, rng):
    """About a quarter of another digit: a corner of it, never the whole."""
    height, width = canvas.shape[:2]
    field = source.fields[rng.integers(len(source))]
    half = GRID * CELL // 2
    # The margin of a field is two cells wide.
    top, left = 2 * CELL + half * rng.integers(0, 2, 2)
    corner = field[top:top + half, left:left + half]
    size = style.clutter_unit * rng.uniform(0.18, 0.32)
    angle = rng.uniform(0, 2 * math.pi)
    scale = size / half
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    side = math.ceil(1.5 * size)
    middle = half / 2 - 0.5
    matrix = np.array([[cos, -sin, side / 2 - (cos - sin) * middle],
                       [sin, cos, side / 2 - (cos + sin) * middle]])
    alpha = cv2.warpAffine(corner, matrix, (side, side))
    alpha = np.clip((alpha - 0.5) * (size / 4) + 0.5, 0, 1)
    # At most about a third of a piece is beyond the border.
    x = round(rng.uniform(-side / 3, width - side * 2 / 3))
    y = round(rng.uniform(-side / 3, height - side * 2 / 3))
    part = canvas[max(y, 0):y + side, max(x, 0):x + side]
    rows, cols = part.shape[:2]
    alpha = alpha[max(-y, 0):, max(-x, 0):][:rows, :cols, None]
    color = np.float32(_clutter_color(style, rng))
    part[:] = to_uint8(part + (color - part) * alpha)
