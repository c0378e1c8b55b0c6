# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Scenes of several digits, with annotations in COCO's format."""
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .backdrop import Backdrop
from .draw import draw_difficulty, draw_glyph, draw_occluders, draw_style
from .folder import DigitFolder, check_int, write_jpeg
from .scene import Glyph, Pose, Rendered, half_extent, render
from .sources import NUM_CLASSES, DigitSource

# How much of the smaller of two boxes may lie in the other one.
_MAX_OVERLAP = 0.15
_TRIES = 30
# A digit below this height in pixels cannot be read.
_MIN_HEIGHT = 13.
_MAX_ANGLE = 25.


def draw_scene(source: DigitSource,
               seed: int,
               size: int = 96,
               hardness: float = 1.,
               max_digits: int = 6) -> tuple[Rendered, list[int], float]:
    """Draw a scene of digits; the same arguments give the same pixels.

    Easy scenes hold few large digits, hard ones many of all sizes, with
    bars in front of some.

    Args:
        max_digits (int): Most digits in a scene. Defaults to 6. The other
            arguments are those of :func:`draw_image`.

    Returns:
        tuple[Rendered, list[int], float]: The scene, the positions in
        ``source`` of its digits, and its difficulty in [0, 1].
    """
    rng = np.random.default_rng(seed)
    difficulty = draw_difficulty(rng, hardness)
    # Clutter and blur fit digits of about this size.
    style = draw_style(rng, difficulty, size * (0.45 - 0.2 * difficulty))
    wanted = 1 + int(rng.integers(0, 1 + round(difficulty * (max_digits - 1))))
    digits: list[tuple[Glyph, Pose]] = []
    boxes: list[np.ndarray] = []
    for _ in range(wanted):
        position = int(rng.integers(len(source)))
        glyph = draw_glyph(rng, style, position, difficulty)
        placed = _place(rng, source, glyph, difficulty, size, boxes)
        # A crowded scene has no room for one more.
        if placed is not None:
            digits.append((glyph, placed[0]))
            boxes.append(placed[1])
    occluders = [
        bar for _, pose in digits if rng.random() < 0.4
        for bar in draw_occluders(rng, style, pose, difficulty)
    ]
    backdrop = Backdrop(style, (size, size), source)
    rendered = render(source, backdrop, digits, occluders)
    return rendered, [glyph.position for glyph, _ in digits], difficulty


def _place(rng, source, glyph, difficulty, size, boxes):
    """A pose and box that hardly overlap the others, or None."""
    for attempt in range(_TRIES):
        # Hard scenes mix all sizes; ever smaller where room is short.
        small = difficulty * rng.random()
        height = size * (0.5 - 0.36 * small) * rng.uniform(0.85, 1.)
        height = max(height * 0.97**attempt, _MIN_HEIGHT)
        angle = rng.uniform(-1, 1) * (4 + (_MAX_ANGLE - 4) * difficulty)
        half = half_extent(source, glyph, Pose(0, 0, height, angle))
        room = (size - 1) / 2 - half - 1
        if (room < 0).any():
            continue
        centre = (size - 1) / 2 + rng.uniform(-1, 1, 2) * room
        box = np.concatenate([centre - half, centre + half])
        if all(_overlap(box, other) <= _MAX_OVERLAP for other in boxes):
            return Pose(*centre.tolist(), height, angle), box
    return None


def _overlap(box, other):
    """Share of the smaller box that lies in the other one."""
    common = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
    if (common <= 0).any():
        return 0.
    areas = [math.prod(b[2:] - b[:2]) for b in (box, other)]
    return math.prod(common) / min(areas)


@dataclass(frozen=True)
class SceneFolder(DigitFolder):
    """Images ``train/000123.jpg`` and ``annotations/train.json``.

    The annotations are in COCO's format: categories '0' to '9', boxes around
    the visible strokes, each image's ``difficulty``, each box's pixels of
    visible ``ink``. A scene has up to ``max_digits`` digits; the other
    arguments are those of :class:`DigitFolder`.
    """
    size: int = 96
    max_digits: int = 6

    fields = ('file', 'difficulty', 'seed', 'digits')
    subfolders = ('', )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int('max_digits', self.max_digits, 1)

    def parameters(self) -> dict:
        """The parameters, as JSON can hold them."""
        return dict(
            super().parameters(),
            kind='scenes',
            max_digits=int(self.max_digits))

    def write_item(self, folder: Path, source: DigitSource, split: str,
                   number: int, seed: int) -> tuple:
        """See :class:`DigitFolder`."""
        scene, positions, difficulty = draw_scene(source, seed, self.size,
                                                  self.hardness,
                                                  self.max_digits)
        name = f'{split}/{number:06d}.jpg'
        write_jpeg(folder / name, scene.image)
        # label, source digit, box and visible ink of each digit
        digits = [
            (source.labels[position], source.indices[position], *map(int, box),
             mask.sum())
            for position, box, mask in zip(positions, scene.boxes, scene.masks)
            if mask.any()
        ]
        return (name, f'{difficulty:.6f}', seed,
                ';'.join(' '.join(map(str, digit)) for digit in digits))

    def finish(self, folder: Path, split: str, rows: list[dict]) -> None:
        """See :class:`DigitFolder`."""
        path = folder / f'annotations/{split}.json'
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(_coco(rows, self.size)))


def _coco(rows: list[dict], size: int) -> dict:
    """An index in COCO's format; all ids start at 1."""
    images, annotations = [], []
    for number, row in enumerate(rows, 1):
        images.append(
            dict(
                id=number,
                file_name=row['file'].partition('/')[2],
                height=size,
                width=size,
                difficulty=float(row['difficulty'])))
        for digit in filter(None, row['digits'].split(';')):
            label, _, x1, y1, x2, y2, ink = map(int, digit.split())
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=number,
                    category_id=label + 1,
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    area=(x2 - x1) * (y2 - y1),
                    ink=ink,
                    iscrowd=0))
    categories = [
        dict(id=label + 1, name=str(label), supercategory='digit')
        for label in range(NUM_CLASSES)
    ]
    return dict(images=images, annotations=annotations, categories=categories)
