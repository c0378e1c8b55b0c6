# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Images of one digit, in a folder for each class."""
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .backdrop import Backdrop
from .draw import (draw_difficulty, draw_glyph, draw_occluders, draw_strengths,
                   draw_style)
from .folder import DigitFolder, write_jpeg
from .scene import Glyph, Pose, Rendered, half_extent, render
from .sources import NUM_CLASSES, DigitSource

# A 6 turned by half a turn is a 9; staying well below a quarter keeps every
# digit what it is.
_MAX_ANGLE = 30.


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
        hardness (float): Positive; below 1 easy images prevail, above 1 hard
            ones. Defaults to 1.

    Returns:
        tuple[Rendered, float]: The image and its difficulty in [0, 1].
    """
    rng = np.random.default_rng(seed)
    difficulty = draw_difficulty(rng, hardness)
    style = draw_style(rng, difficulty, size)
    glyph = draw_glyph(rng, style, position, difficulty)
    pose = draw_pose(rng, source, glyph, difficulty, size)
    occluders = draw_occluders(rng, style, pose, difficulty)
    backdrop = Backdrop(style, (size, size), source)
    return render(source, backdrop, [(glyph, pose)], occluders), difficulty


def draw_pose(rng: np.random.Generator, source: DigitSource, glyph: Glyph,
              difficulty: float, size: int) -> Pose:
    """Draw where a digit is, with all of its strokes on the canvas."""
    scale, turn, shift = draw_strengths(rng, difficulty, 3)
    height = size * (0.78 - 0.38 * scale) * rng.uniform(0.92, 1.)
    angle = rng.uniform(-1, 1) * (4 + (_MAX_ANGLE - 4) * turn)
    half = half_extent(source, glyph, Pose(0, 0, height, angle))
    middle = (size - 1) / 2
    free = np.maximum(middle - half - 1, 0)
    x, y = middle + rng.uniform(-1, 1, 2) * (0.3 + 0.7 * shift) * free
    return Pose(x, y, height, angle)


@dataclass(frozen=True)
class ImageFolder(DigitFolder):
    """Images ``train/3/000123.jpg``: split, class, number.

    Classes are balanced, and each source digit of a class is used equally
    often, up to one. The arguments are those of :class:`DigitFolder`.
    """

    def write_item(self, folder: Path, source: DigitSource, split: str,
                   number: int, seed: int) -> tuple:
        """See :class:`DigitFolder`."""
        label = number % NUM_CLASSES
        members = source.members(label)
        position = int(members[number // NUM_CLASSES % len(members)])
        image, difficulty = draw_image(source, position, seed, self.size,
                                       self.hardness)
        name = f'{split}/{label}/{number:06d}.jpg'
        write_jpeg(folder / name, image.image)
        return (name, label, f'{difficulty:.6f}', source.indices[position],
                seed)
