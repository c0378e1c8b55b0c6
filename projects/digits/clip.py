# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Draw clips of one moving digit, whose class only time can tell.

Position, size and angle each have a *sweep*: a range that is passed through at
a steady speed. In every clip all sweeps are drawn, in the same way whatever
the class. The class says which one is really run through, and in which
direction; the others are held at some point of theirs. So a single frame of a
random moment looks the same in all classes, and the frames of two opposite
classes are the same ones in reverse order.
"""
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .backdrop import Backdrop
from .draw import draw_difficulty, draw_glyph, draw_occluders, draw_style
from .scene import Glyph, Pose, half_extent, render
from .sources import DigitSource

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


@dataclass(frozen=True)
class Sweep:
    """A range of values that a clip may run through.

    Args:
        middle (float): Middle of the range.
        reach (float): Distance of the middle from both ends, not negative.
    """
    middle: float
    reach: float


def draw_clip(source: DigitSource,
              position: int,
              motion: str,
              seed: int,
              size: int = 64,
              frames: int = 16,
              hardness: float = 1.) -> tuple[np.ndarray, float]:
    """Draw a clip of one digit; the same arguments give the same pixels.

    Args:
        source (DigitSource): Where all digits of the clip are from.
        position (int): Position in ``source`` of the digit to show.
        motion (str): The class, a key of :data:`MOTIONS`.
        seed (int): Everything random follows from it.
        size (int): Height and width in pixels. Defaults to 64.
        frames (int): Number T of frames, at least 2. Defaults to 16.
        hardness (float): See :func:`draw_difficulty`. Defaults to 1.

    Returns:
        tuple[np.ndarray, float]: Frames, blue, green, red, (T, H, W, 3),
        uint8, and the difficulty in [0, 1].

    Raises:
        ValueError: If the motion is unknown.

    Example:
        >>> clip, difficulty = draw_clip(DigitSource('test'), 0, 'left', 1)
        >>> clip.shape
        (16, 64, 64, 3)
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
    occluders = draw_occluders(rng, style, middle_pose(sweeps), difficulty)
    poses = draw_poses(rng, sweeps, motion, difficulty, size, frames)
    backdrop = Backdrop(style, (size, size), source)
    images = [
        render(source, backdrop, [(glyph, pose)], occluders).image
        for pose in poses
    ]
    return np.stack(images), difficulty


def draw_sweeps(rng: np.random.Generator, source: DigitSource, glyph: Glyph,
                speed: float, size: int) -> dict[str, Sweep]:
    """Draw the sweep of each part of the pose.

    Args:
        rng (np.random.Generator): Source of randomness.
        source (DigitSource): Where the glyph is from.
        glyph (Glyph): The digit as written.
        speed (float): In [0, 1]; how far the sweeps reach.
        size (int): Height and width of the canvas in pixels.

    Returns:
        dict[str, Sweep]: Of 'x', 'y' (pixels), 'size' (logarithm of pixels)
        and 'angle' (degrees).
    """
    grow = Sweep(
        math.log(size * rng.uniform(0.3, 0.4)), math.log(1.06 + 0.44 * speed))
    largest = Pose(0, 0, math.exp(grow.middle + grow.reach))
    # The digit may turn, so what counts is its half diagonal.
    radius = math.hypot(*half_extent(source, glyph, largest))
    room = max((size - 1) / 2 - radius - 1, _LEAST_ROOM * size)
    reach = room * (0.12 + 0.88 * speed)
    x, y = rng.uniform(-1, 1, 2) * (room - reach) + (size - 1) / 2
    return dict(
        x=Sweep(x, reach),
        y=Sweep(y, reach),
        size=grow,
        angle=Sweep(rng.uniform(0, 360), 8 + 82 * speed))


def middle_pose(sweeps: Mapping[str, Sweep]) -> Pose:
    """The pose at the middle of all sweeps.

    Args:
        sweeps (Mapping[str, Sweep]): What :func:`draw_sweeps` gives.

    Returns:
        Pose: The same for all classes.
    """
    return Pose(sweeps['x'].middle, sweeps['y'].middle,
                math.exp(sweeps['size'].middle), sweeps['angle'].middle)


def draw_poses(rng: np.random.Generator, sweeps: Mapping[str,
                                                         Sweep], motion: str,
               difficulty: float, size: int, frames: int) -> list[Pose]:
    """Draw where the digit is in each frame.

    Args:
        rng (np.random.Generator): Source of randomness.
        sweeps (Mapping[str, Sweep]): What :func:`draw_sweeps` gives.
        motion (str): A key of :data:`MOTIONS`.
        difficulty (float): In [0, 1]; hard clips shake.
        size (int): Height and width of the canvas in pixels.
        frames (int): Number T of frames.

    Returns:
        list[Pose]: One for each frame.
    """
    places = {
        name: np.full(frames, place)
        for name, place in zip(sweeps, rng.uniform(-1, 1, len(sweeps)))
    }
    moving, direction = MOTIONS[motion]
    places[moving] = direction * np.linspace(-1, 1, frames)
    # A hand-held camera: at most half a pixel of 64, 1 degree, 1.5 %.
    shake = 0.5 * difficulty * rng.uniform(-1, 1, (len(sweeps), frames))
    units = dict(x=size / 64, y=size / 64, size=0.03, angle=2.)
    paths = {
        name: sweep.middle + sweep.reach * places[name] + units[name] * noise
        for (name, sweep), noise in zip(sweeps.items(), shake)
    }
    return [
        Pose(paths['x'][t], paths['y'][t], math.exp(paths['size'][t]),
             paths['angle'][t]) for t in range(frames)
    ]
