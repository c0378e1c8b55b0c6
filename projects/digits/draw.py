# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Draw scenes at random, from easy to hard.

Difficulty is a number in [0, 1]. Every aspect of a scene that makes it hard
(size, turn, contrast, texture, clutter, occlusion, blur, noise) follows it
with its own strength, so that no two hard images are hard for the same
reason, and even at difficulty 1 seldom are all aspects at their worst.
"""
import math

import numpy as np

from .backdrop import TEXTURES, Backdrop, Style, luma, tinted
from .scene import Glyph, Occluder, Pose, Rendered, half_extent, render
from .sources import DigitSource

# A 6 turned by half a turn is a 9; staying well below a quarter keeps every
# digit what it is.
_MAX_ANGLE = 30.


def draw_difficulty(rng: np.random.Generator, hardness: float = 1.) -> float:
    """Draw the difficulty of a scene from the Beta(hardness, 1) distribution.

    Its mean is ``hardness / (hardness + 1)``: at 1 the difficulty is uniform
    in [0, 1], below 1 easy scenes prevail, above 1 hard ones.

    Args:
        rng (np.random.Generator): Source of randomness.
        hardness (float): Positive. Defaults to 1.

    Returns:
        float: Difficulty in [0, 1].
    """
    return float(rng.random()**(1 / hardness))


def draw_style(rng: np.random.Generator,
               difficulty: float,
               size: float = 64) -> Style:
    """Draw the look of a scene.

    Args:
        rng (np.random.Generator): Source of randomness.
        difficulty (float): In [0, 1]; steers contrast, texture, clutter, blur
            and noise.
        size (float): Side in pixels of a canvas that one digit would fill;
            the width of the blur and the size of the clutter follow it.
            Defaults to 64.

    Returns:
        Style: The look.
    """
    contrast, texture, clutter, blur, noise = _strengths(rng, difficulty, 5)
    contrast = (0.62 - 0.36 * contrast) * rng.uniform(0.9, 1.15)
    dark_ink = rng.random() < 0.5
    # Room for the ink on its side of the background's brightness.
    brightness = rng.uniform(0.05, 0.95 - contrast)
    if dark_ink:
        brightness, contrast = brightness + contrast, -contrast
    return Style(
        seed=int(rng.integers(2**32)),
        background=tinted(rng, brightness, rng.uniform(0, 0.4)),
        contrast=contrast,
        texture=TEXTURES[rng.integers(len(TEXTURES))],
        texture_strength=abs(contrast) * (0.06 + 0.5 * texture),
        strokes=round(5 * clutter * rng.random()),
        pieces=round(5 * clutter * rng.random()),
        clutter_contrast=0.35 + 0.25 * clutter,
        clutter_unit=size,
        blur=max(0., blur - 0.25) * 1.3 * size / 64,
        noise=0.01 + 0.08 * noise * rng.random())


def draw_glyph(rng: np.random.Generator, style: Style, position: int,
               difficulty: float) -> Glyph:
    """Draw how a source digit is written and in which ink.

    Args:
        rng (np.random.Generator): Source of randomness.
        style (Style): The look of the scene, for the contrast of the ink.
        position (int): Position of the digit in its :class:`DigitSource`.
        difficulty (float): In [0, 1]; steers slant, stretch and weight.

    Returns:
        Glyph: The digit as written.
    """
    slant, stretch, weight = rng.uniform(-1, 1, 3) * (0.3 + 0.7 * difficulty)
    brightness = luma(style.background) + style.contrast
    ink = tinted(rng, min(max(brightness, 0.), 1.), rng.uniform(0, 0.5))
    return Glyph(
        position,
        ink,
        weight=0.5 + 0.5 * weight,
        slant=0.25 * slant,
        stretch=1 + 0.2 * stretch)


def draw_pose(rng: np.random.Generator, source: DigitSource, glyph: Glyph,
              difficulty: float, shape: tuple[int, int]) -> Pose:
    """Draw where a digit is, with all of its strokes on the canvas.

    Args:
        rng (np.random.Generator): Source of randomness.
        source (DigitSource): Where the glyph is from.
        glyph (Glyph): The digit as written.
        difficulty (float): In [0, 1]; steers size, angle and position.
        shape (tuple[int, int]): Height and width of the canvas in pixels.

    Returns:
        Pose: Centre, size and angle.
    """
    scale, turn, shift = _strengths(rng, difficulty, 3)
    size = min(shape) * (0.78 - 0.38 * scale) * rng.uniform(0.92, 1.)
    angle = rng.uniform(-1, 1) * (4 + (_MAX_ANGLE - 4) * turn)
    half_w, half_h = half_extent(source, glyph, Pose(0, 0, size, angle))
    height, width = shape
    free_x = max(0., (width - 1) / 2 - half_w - 1)
    free_y = max(0., (height - 1) / 2 - half_h - 1)
    x, y = rng.uniform(-1, 1, 2) * (0.3 + 0.7 * shift)
    return Pose((width - 1) / 2 + x * free_x, (height - 1) / 2 + y * free_y,
                size, angle)


def draw_occluders(rng: np.random.Generator, style: Style, pose: Pose,
                   difficulty: float) -> tuple[Occluder, ...]:
    """Draw up to two bars in front of a digit.

    Args:
        rng (np.random.Generator): Source of randomness.
        style (Style): The look of the scene, for colours that are not ink.
        pose (Pose): Where the digit is.
        difficulty (float): In [0, 1]; steers their number and width.

    Returns:
        tuple[Occluder, ...]: The bars; none on easy scenes.
    """
    strength, = _strengths(rng, difficulty, 1)
    number = int(strength > rng.uniform(0.3, 1.)) + int(strength > 0.9)
    bars = []
    for _ in range(number):
        angle = rng.uniform(0, math.pi)
        cos, sin = math.cos(angle), math.sin(angle)
        offset = rng.uniform(-0.4, 0.4) * pose.size
        length = rng.uniform(0.5, 0.9) * pose.size
        half = (0.025 + 0.04 * strength * rng.random()) * pose.size
        x, y = pose.x - sin * offset, pose.y + cos * offset
        points = tuple(
            (x + cos * along - sin * aside, y + sin * along + cos * aside)
            for along, aside in ((-length, -half), (length, -half),
                                 (length, half), (-length, half)))
        # On the other side of the background from the ink: a bar in ink
        # would be read as one more stroke.
        brightness = luma(
            style.background) - style.contrast * rng.uniform(0.2, 0.7)
        bars.append(
            Occluder(points, tinted(rng, min(max(brightness, 0.03), 0.97),
                                    0.4)))
    return tuple(bars)


def draw_image(source: DigitSource,
               position: int,
               seed: int,
               size: int = 64,
               hardness: float = 1.) -> tuple[Rendered, float]:
    """Draw an image of one digit; the same arguments give the same pixels.

    Args:
        source (DigitSource): Where all digits of the image are from.
        position (int): Position in ``source`` of the digit to show.
        seed (int): Everything random follows from it.
        size (int): Height and width in pixels. Defaults to 64.
        hardness (float): See :func:`draw_difficulty`. Defaults to 1.

    Returns:
        tuple[Rendered, float]: The image and its difficulty in [0, 1].

    Example:
        >>> rendered, difficulty = draw_image(DigitSource('test'), 0, seed=1)
        >>> rendered.image.shape
        (64, 64, 3)
    """
    rng = np.random.default_rng(seed)
    difficulty = draw_difficulty(rng, hardness)
    shape = (size, size)
    style = draw_style(rng, difficulty, size)
    glyph = draw_glyph(rng, style, position, difficulty)
    pose = draw_pose(rng, source, glyph, difficulty, shape)
    occluders = draw_occluders(rng, style, pose, difficulty)
    backdrop = Backdrop(style, shape, source)
    rendered = render(source, backdrop, [(glyph, pose)], occluders)
    return rendered, difficulty


def _strengths(rng, difficulty, number):
    """How far each of some aspects follows the difficulty, in [0, 1]."""
    share = rng.uniform(0.1, 1.2, number)
    return np.minimum(difficulty * share, 1.).tolist()
