# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Clips of one moving digit, whose class only time can tell.

Position, size and angle each have a *sweep*: a range that is passed through at
a steady speed. In every clip all sweeps are drawn, in the same way whatever
the class. The class says which one is really run through, and in which
direction; the others are held at some point of theirs. So a single frame of a
random moment looks the same in all classes, and the frames of two opposite
classes are the same ones in reverse order.
"""
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from .backdrop import Backdrop
from .draw import draw_difficulty, draw_glyph, draw_occluders, draw_style
from .folder import DigitFolder, check_int
from .scene import Glyph, Pose, half_extent, render
from .sources import DigitSource

# What has a sweep: the centre in pixels, the logarithm of the size in pixels,
# and the angle in degrees.
PARTS = ('x', 'y', 'size', 'angle')
# The classes: which part of the pose moves, and in which direction. Angles
# turn clockwise, and y points down.
MOTIONS = dict(
    left=('x', -1),
    right=('x', 1),
    up=('y', -1),
    down=('y', 1),
    clockwise=('angle', 1),
    counterclockwise=('angle', -1),
    growing=('size', 1),
    shrinking=('size', -1))
# Share of the canvas in which the centre may move at least, even if parts of
# a large digit then leave the canvas.
_LEAST_ROOM = 0.22
_FPS = 10


class Sweeps(NamedTuple):
    """Middle and half length of the sweep of each of PARTS, (4, )."""
    middle: np.ndarray
    reach: np.ndarray


def draw_clip(source: DigitSource,
              position: int,
              motion: str,
              seed: int,
              size: int = 64,
              frames: int = 16,
              hardness: float = 1.) -> tuple[np.ndarray, float]:
    """Draw a clip of one digit; the same arguments give the same pixels.

    Args:
        motion (str): The class, a key of :data:`MOTIONS`.
        frames (int): Number T of frames, at least 2. Defaults to 16. The
            other arguments are those of :func:`draw_image`.

    Returns:
        tuple[np.ndarray, float]: Frames, blue, green, red, (T, H, W, 3),
        uint8, and the difficulty in [0, 1].

    Raises:
        ValueError: If the motion is unknown.
    """
    if motion not in MOTIONS:
        raise ValueError(f'motion must be one of {", ".join(MOTIONS)}, got '
                         f'{motion!r}')
    rng = np.random.default_rng(seed)
    difficulty = draw_difficulty(rng, hardness)
    style = draw_style(rng, difficulty, 0.5 * size)
    glyph = draw_glyph(rng, style, position, difficulty)
    # Hard clips are slower, but none stands still.
    speed = 1 - 0.95 * difficulty * rng.uniform(0.5, 1)
    sweeps = draw_sweeps(rng, source, glyph, speed, size)
    # At the middle of all sweeps, wherever this class passes.
    occluders = draw_occluders(rng, style, _pose(sweeps.middle), difficulty)
    poses = draw_poses(rng, sweeps, motion, difficulty, size, frames)
    backdrop = Backdrop(style, (size, size), source)
    images = [
        render(source, backdrop, [(glyph, pose)], occluders).image
        for pose in poses
    ]
    return np.stack(images), difficulty


def draw_sweeps(rng: np.random.Generator, source: DigitSource, glyph: Glyph,
                speed: float, size: int) -> Sweeps:
    """Draw the sweeps; how far they reach follows the speed, in [0, 1]."""
    log_size = math.log(size * rng.uniform(0.3, 0.4))
    growth = math.log(1.06 + 0.44 * speed)
    largest = Pose(0, 0, math.exp(log_size + growth))
    # The digit may turn, so what counts is its half diagonal.
    radius = math.hypot(*half_extent(source, glyph, largest))
    room = max((size - 1) / 2 - radius - 1, _LEAST_ROOM * size)
    reach = room * (0.12 + 0.88 * speed)
    x, y = rng.uniform(-1, 1, 2) * (room - reach) + (size - 1) / 2
    return Sweeps(
        np.array([x, y, log_size, rng.uniform(0, 360)]),
        np.array([reach, reach, growth, 8 + 82 * speed]))


def draw_poses(rng: np.random.Generator, sweeps: Sweeps, motion: str,
               difficulty: float, size: int, frames: int) -> list[Pose]:
    """Draw where the digit is in each frame; hard clips shake."""
    places = np.tile(rng.uniform(-1, 1, len(PARTS)), (frames, 1))
    part, direction = MOTIONS[motion]
    places[:, PARTS.index(part)] = direction * np.linspace(-1, 1, frames)
    # A hand-held camera: at most half a pixel of 64, 1 degree, 1.5 %.
    shake = 0.5 * difficulty * rng.uniform(-1, 1, (len(PARTS), frames)).T
    units = np.array([size / 64, size / 64, 0.03, 2.])
    return [
        _pose(values)
        for values in sweeps.middle + sweeps.reach * places + units * shake
    ]


def _pose(values):
    """The pose with these values of PARTS."""
    x, y, log_size, angle = values.tolist()
    return Pose(x, y, math.exp(log_size), angle)


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
class ClipFolder(DigitFolder):
    """Videos ``train/left/000123.avi``: split, class, number.

    Beside them are the lists ``train.txt`` that MMAction2's ``VideoDataset``
    reads. A clip has ``frames`` frames, at least 2; the other arguments are
    those of :class:`DigitFolder`.
    """
    frames: int = 16

    items = 'clips'
    classes = tuple(MOTIONS)
    subfolders = classes

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

    def write_item(self, folder: Path, source: DigitSource, split: str,
                   number: int, seed: int) -> tuple:
        """See :class:`DigitFolder`."""
        label = number % len(self.classes)
        position = number // len(self.classes) % len(source)
        motion = self.classes[label]
        clip, difficulty = draw_clip(source, position, motion, seed, self.size,
                                     self.frames, self.hardness)
        name = f'{split}/{motion}/{number:06d}.avi'
        write_video(folder / name, clip)
        return (name, label, f'{difficulty:.6f}', source.indices[position],
                seed)

    def finish(self, folder: Path, split: str, rows: list[dict]) -> None:
        """See :class:`DigitFolder`."""
        lines = [f'{row["file"]} {row["label"]}\n' for row in rows]
        (folder / f'{split}.txt').write_text(''.join(lines))
