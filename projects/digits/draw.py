# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Draw the parts of a scene at random, from easy to hard.

Difficulty is a number in [0, 1], and sizes are in pixels. Every aspect of a
scene that makes it hard (size, turn, contrast, texture, clutter, occlusion,
blur, noise) follows it with its own strength, so that no two hard images are
hard for the same reason, and even at difficulty 1 seldom are all aspects at
their worst.
"""
import math

import numpy as np

from .backdrop import TEXTURES, Style, luma, tinted
from .scene import Glyph, Occluder, Pose


def draw_difficulty(rng: np.random.Generator, hardness: float = 1.) -> float:
    """Draw the difficulty of a scene from the Beta(hardness, 1) distribution.

    Its mean is ``hardness / (hardness + 1)``: at 1 the difficulty is uniform
    in [0, 1], below 1 easy scenes prevail, above 1 hard ones.
    """
    return float(rng.random()**(1 / hardness))


def draw_strengths(rng: np.random.Generator, difficulty: float,
                   number: int) -> list[float]:
    """Draw how far some aspects follow the difficulty, in [0, 1]."""
    share = rng.uniform(0.1, 1.2, number)
    return np.minimum(difficulty * share, 1.).tolist()


def draw_style(rng: np.random.Generator,
               difficulty: float,
               size: float = 64) -> Style:
    """Draw the look of a scene.

    The size is that of a canvas that one digit would fill; the width of the
    blur and the size of the clutter follow it.
    """
    contrast, texture, clutter, blur, noise = draw_strengths(
        rng, difficulty, 5)
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
    """Draw how the source digit at a position is written, in which ink."""
    slant, stretch, weight = rng.uniform(-1, 1, 3) * (0.3 + 0.7 * difficulty)
    brightness = luma(style.background) + style.contrast
    return Glyph(
        position,
        tinted(rng, brightness, rng.uniform(0, 0.5)),
        weight=0.5 + 0.5 * weight,
        slant=0.25 * slant,
        stretch=1 + 0.2 * stretch)


def draw_occluders(rng: np.random.Generator, style: Style, pose: Pose,
                   difficulty: float) -> list[Occluder]:
    """Draw up to two bars in front of a digit; none on easy scenes."""
    strength, = draw_strengths(rng, difficulty, 1)
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
            Occluder(points, tinted(rng, brightness, 0.4, margin=0.03)))
    return bars
