# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A picture with what the network said of it, and where it left."""
import os
from typing import Any, Mapping, Union

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..io.atomic import atomic_file
from .figure import INK, PAPER, SOFT, drawable, exit_colour, font_file, short

__all__ = ['annotate']

# The longer side of the picture is at least and at most this long.
SIDES = (320, 1280)


def annotate(pixels: np.ndarray, result: Mapping[str, Any],
             path: Union[str, os.PathLike]) -> None:
    """Write an image with a strip below it: class, score, exit and cost.

    Args:
        pixels (ndarray): RGB (H, W, 3), uint8.
        result (Mapping): ``classes``, the best first, each with ``name`` and
            ``score``; ``exit_index``, ``confidence``, ``macs`` and
            ``all_macs``.
        path (str | PathLike): PNG file; its folder must exist.
    """
    image = Image.fromarray(pixels)
    longest = max(image.size)
    scale = max(SIDES[0] / longest, min(1, SIDES[1] / longest))
    width, height = (max(1, round(side * scale)) for side in image.size)
    # Small images are shown as they are, in larger squares.
    method = Image.Resampling.NEAREST if scale > 1 else \
        Image.Resampling.LANCZOS
    image = image.resize((width, height), method)
    best = result['classes'][0]
    name = drawable(str(best['name']), f'class {best["label"]}')
    lines = [(f'{short(name, 28)}  {best["score"]:.1%}', INK, 1.),
             (f'exit {result["exit_index"]},  '
              f'{result["macs"] / result["all_macs"]:.0%} of all MACs,  '
              f'confidence {result["confidence"]:.2f}', SOFT, 0.75)]
    letter = max(width, SIDES[0]) / 20
    # Narrow images get a wider ground, so that the text has its place.
    ground = Image.new('RGB',
                       (max(width, SIDES[0]), height + round(3.2 * letter)),
                       PAPER)
    ground.paste(image, ((ground.width - width) // 2, 0))
    draw = ImageDraw.Draw(ground)
    draw.rectangle((0, height, ground.width, height + letter / 4),
                   fill=exit_colour(result['exit_index']))
    y = height + 0.6 * letter
    for text, colour, size in lines:
        font = ImageFont.truetype(font_file(text), round(size * letter))
        draw.text((letter / 2, y), text, fill=colour, font=font)
        y += 1.4 * size * letter
    with atomic_file(path) as temporary:
        ground.save(temporary, format='PNG')
