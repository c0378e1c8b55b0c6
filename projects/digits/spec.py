# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What decides the content of a generated image folder."""
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from .sources import NUM_CLASSES, SPLITS

# Raise it with every change that gives other pixels for the same parameters.
GENERATOR_VERSION = 1
FORMAT = 'mmdynperceiver-digits'
MIN_SIZE = 32


@dataclass(frozen=True)
class FolderSpec:
    """All that decides the content of an image folder, checked.

    Args:
        counts (Mapping[str, int]): Images of 'train', 'val' and 'test'. A
            split that is missing or 0 is not written.
        size (int): Height and width of the images in pixels, at least 32.
            Defaults to 64.
        seed (int): Seed, not negative. Defaults to 0.
        hardness (float): Positive; see :func:`draw_difficulty`. Defaults to
            1.

    Raises:
        TypeError: If a value has the wrong type.
        ValueError: If a value is out of range.
    """
    counts: Mapping[str, int]
    size: int = 64
    seed: int = 0
    hardness: float = 1.

    def __post_init__(self) -> None:
        unknown = sorted(set(self.counts) - set(SPLITS))
        if unknown:
            raise ValueError(
                f'counts may name {", ".join(SPLITS)}, got {unknown[0]!r}')
        for split, count in self.counts.items():
            check_int(f'the number of {split} {self.items}', count, 0)
        if not any(self.counts.values()):
            raise ValueError(f'at least one split needs {self.items}, got '
                             f'none in any')
        check_int('size', self.size, MIN_SIZE)
        check_int('seed', self.seed, 0)
        if not isinstance(self.hardness, (int, float)):
            raise TypeError(
                f'hardness must be a number, got {self.hardness!r}')
        if not (math.isfinite(self.hardness) and self.hardness > 0):
            raise ValueError(
                'hardness must be a positive number such as 0.5 (easier), 1 '
                f'or 2 (harder), got {self.hardness!r}')

    # What is counted, for messages.
    items: ClassVar[str] = 'images'
    # Columns of the index that each split has.
    fields: ClassVar[tuple[str, ...]] = ()
    classes: ClassVar[tuple[str, ...]] = tuple(map(str, range(NUM_CLASSES)))
    # Folders below that of a split.
    subfolders: ClassVar[tuple[str, ...]] = classes

    @property
    def item_bytes(self) -> int:
        """About how much disk an item takes."""
        # A file takes whole blocks; a noisy JPEG about one byte per pixel.
        return max(4096, self.size**2)

    def write_items(self, partial: Path, split: str, start: int,
                    stop: int) -> str:
        """Write the files of some items.

        Args:
            partial (Path): The folder to write to.
            split (str): 'train', 'val' or 'test'.
            start (int): Number of the first item in its split.
            stop (int): One more than that of the last.

        Returns:
            str: Their lines of the index.
        """
        raise NotImplementedError

    def finish(self, partial: Path) -> None:
        """Write what is made from the indexes of the finished splits."""

    def parameters(self) -> dict:
        """The parameters, as JSON can hold them."""
        return dict(
            counts={split: int(self.counts.get(split, 0))
                    for split in SPLITS},
            size=int(self.size),
            seed=int(self.seed),
            hardness=float(self.hardness))

    def info(self) -> dict:
        """What ``dataset.json`` holds, the fingerprint included."""
        info = dict(
            format=FORMAT,
            generator_version=GENERATOR_VERSION,
            parameters=self.parameters())
        text = json.dumps(info, sort_keys=True)
        info['fingerprint'] = hashlib.sha256(text.encode()).hexdigest()
        info['classes'] = list(self.classes)
        return info


def image_seed(seed: int, split: str, number: int) -> int:
    """Seed of one image of a data set.

    Args:
        seed (int): Seed of the data set, not negative.
        split (str): 'train', 'val' or 'test'.
        number (int): Number of the image in its split, from 0.

    Returns:
        int: Seed for :func:`draw_image`.
    """
    sequence = np.random.SeedSequence([seed, SPLITS.index(split), number])
    # 63 bits, so that readers of the index can keep it as a signed integer.
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def check_int(name: str, value: int, least: int) -> None:
    """Refuse a value that is not an integer or too small.

    Args:
        name (str): What the value is, for the message.
        value (int): The value.
        least (int): The smallest valid value.

    Raises:
        TypeError: If the value is not an integer.
        ValueError: If it is less than ``least``.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f'{name} must be an integer, got {value!r}')
    if value < least:
        raise ValueError(f'{name} must be at least {least}, got {value}')
