# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Write clips of moving digits as real video files."""
import csv
import io
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from .clip import MOTIONS, draw_clip
from .image_folder import digit_source, write_folder
from .sources import SPLITS
from .spec import FolderSpec, check_int, image_seed

__all__ = ['DEFAULT_CLIPS', 'ClipSpec', 'write_clip_folder', 'write_video']

DEFAULT_CLIPS = dict(train=4000, val=1000, test=1000)

_FPS = 10


def write_video(path: str | os.PathLike, frames: np.ndarray) -> None:
    """Write frames as Motion JPEG in an AVI file, which every decoder reads.

    Args:
        path (str | PathLike): The file, which ends with ``.avi``.
        frames (np.ndarray): Blue, green, red, (T, H, W, 3), uint8.

    Raises:
        OSError: If it cannot be written.
    """
    height, width = frames.shape[1:3]
    # OpenCV's own writer of this format is there in every build.
    writer = cv2.VideoWriter(
        os.fspath(path), cv2.CAP_OPENCV_MJPEG, cv2.VideoWriter.fourcc(*'MJPG'),
        _FPS, (width, height))
    if not writer.isOpened():
        raise OSError(f'cannot write the video {os.fspath(path)!r}')
    writer.set(cv2.VIDEOWRITER_PROP_QUALITY, 80)
    try:
        for frame in frames:
            writer.write(frame)
    finally:
        writer.release()


@dataclass(frozen=True)
class ClipSpec(FolderSpec):
    """All that decides the content of a folder of clips, checked.

    Args:
        counts (Mapping[str, int]): Clips of 'train', 'val' and 'test'.
        size (int): Height and width of the clips in pixels. Defaults to 64.
        seed (int): Seed, not negative. Defaults to 0.
        hardness (float): Positive. Defaults to 1.
        frames (int): Frames of a clip, at least 2. Defaults to 16.
    """
    frames: int = 16

    items: ClassVar[str] = 'clips'
    fields: ClassVar[tuple[str, ...]] = ('file', 'label', 'difficulty',
                                         'source', 'seed')
    classes: ClassVar[tuple[str, ...]] = tuple(MOTIONS)
    subfolders: ClassVar[tuple[str, ...]] = tuple(MOTIONS)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int('frames', self.frames, 2)

    def parameters(self) -> dict:
        """The parameters, as JSON can hold them."""
        return dict(
            super().parameters(), kind='clips', frames=int(self.frames))

    @property
    def item_bytes(self) -> int:
        """About how much disk a clip takes."""
        return self.frames * super().item_bytes

    def write_items(self, partial: Path, split: str, start: int,
                    stop: int) -> str:
        """Write clips ``split/class/number.avi``."""
        source = digit_source(split)
        text = io.StringIO()
        index = csv.writer(text, lineterminator='\n')
        for number in range(start, stop):
            label = number % len(self.classes)
            position = number // len(self.classes) % len(source)
            seed = image_seed(self.seed, split, number)
            clip, difficulty = draw_clip(source, position, self.classes[label],
                                         seed, self.size, self.frames,
                                         self.hardness)
            name = f'{split}/{self.classes[label]}/{number:06d}.avi'
            write_video(partial / name, clip)
            index.writerow((name, label, f'{difficulty:.6f}',
                            source.indices[position], seed))
        return text.getvalue()

    def finish(self, partial: Path) -> None:
        """Write the lists that MMAction2 reads: a file and a label a line."""
        for split in SPLITS:
            index = partial / f'{split}.csv'
            if index.exists():
                with open(index, newline='') as file:
                    lines = [
                        f'{row["file"]} {row["label"]}\n'
                        for row in csv.DictReader(file)
                    ]
                (partial / f'{split}.txt').write_text(''.join(lines))


def write_clip_folder(
        root: str | os.PathLike,
        counts: Mapping[str, int] = DEFAULT_CLIPS,
        size: int = 64,
        seed: int = 0,
        hardness: float = 1.,
        frames: int = 16,
        overwrite: bool = False,
        workers: int = 1,
        progress: Callable[[int, int], None] | None = None) -> bool:
    """Make the clips of moving digits, or reuse them if they are there.

    The folder holds videos ``train/left/000123.avi`` (split, class, number),
    the lists ``train.txt`` that MMAction2's ``VideoDataset`` reads, one index
    ``train.csv`` per split (columns file, label, difficulty, source, seed;
    source is the row in ``load_digits``), and ``dataset.json`` with all
    parameters. It appears whole or not at all; see
    :func:`write_image_folder`.

    Args:
        root (str | os.PathLike): The folder to make.
        counts (Mapping[str, int]): Clips of 'train', 'val' and 'test'.
            Defaults to 4,000, 1,000 and 1,000.
        size (int): Height and width of the clips in pixels, at least 32.
            Defaults to 64.
        seed (int): Seed, not negative. Defaults to 0.
        hardness (float): See :func:`draw_difficulty`. Defaults to 1.
        frames (int): Frames of a clip. Defaults to 16.
        overwrite (bool): Replace a data set with other parameters. Defaults
            to False.
        workers (int): Number of processes. Defaults to 1.
        progress (Callable[[int, int], None], optional): Called with the
            numbers of finished and of all clips. Defaults to None.

    Returns:
        bool: True if clips were written, False if the folder was complete.

    Raises:
        TypeError: If a parameter has the wrong type.
        ValueError: If a parameter is out of range.
        OSError: If the folder cannot be written, or holds something else.
    """
    spec = ClipSpec(dict(counts), size, seed, hardness, frames)
    return write_folder(root, spec, overwrite, workers, progress)
