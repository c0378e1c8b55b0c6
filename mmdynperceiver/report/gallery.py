# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Galleries: what left at which exit, and where the exits look."""
import math
import os
import textwrap
from typing import Any, Mapping, NamedTuple, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from .figure import COLOURS, PAPER, save_figure, settle, short, styled

__all__ = [
    'GalleryImage', 'MappedImage', 'mapped_exits', 'overlay',
    'plot_activation_maps', 'plot_gallery'
]

_RIGHT, _WRONG = '#00664a', '#c02000'
# One screen, in inches: galleries of clips are no higher.
SCREEN = 9.5
_FONT = 9
# How much of an image its activation map covers.
_OPACITY = 0.6


class GalleryImage(NamedTuple):
    """One image of a gallery."""

    pixels: Any  # RGB (H, W, 3), uint8
    truth: str  # name of its class
    predicted: str  # name of the class that it got
    confidence: float  # at the exit, in [0, 1]
    caption: str | None = None  # instead of the classes and the confidence

    @property
    def right(self) -> bool:
        """Whether it got its own class."""
        return self.truth == self.predicted

    @property
    def aspect(self) -> float:
        """Width for a height of 1, but at least 1."""
        return max(1., self.pixels.shape[1] / self.pixels.shape[0])


@styled()
def plot_gallery(groups: Mapping[str, Sequence[GalleryImage]],
                 path: str | os.PathLike | None = None,
                 title: str = '',
                 columns: int = 10,
                 side: float = 1.05) -> Figure:
    """Draw groups of images below each other.

    Args:
        groups (Mapping[str, Sequence[GalleryImage]]): Heading -> images. Of
            clips only as many are drawn as one screen takes.
        path (str | PathLike, optional): PNG file to write.
        title (str): Of the picture.
        columns (int): Images in a row.
        side (float): Side of an image in inches.

    Raises:
        ValueError: If there is no group.
    """
    if not groups:
        raise ValueError('a gallery needs at least one group, got none')
    images = [image for part in groups.values() for image in part]
    # Film strips need a wider place than images.
    aspect = max((image.aspect for image in images), default=1.)
    width, columns = side * columns, math.ceil(columns / aspect)
    place = width / columns
    letters = int(place * 72 / (0.62 * _FONT))
    lines = max((_caption(image, letters).count('\n') + 1 for image in images),
                default=1)
    cell = place / aspect + lines * 1.25 * _FONT / 72 + 0.05
    most = len(images)
    if any(image.aspect > 2 for image in images):  # frames of a clip
        rows = int((SCREEN - 0.4) / len(groups) - 0.35) // cell
        most = columns * max(1, int(rows))
    shown = {heading: part[:most] for heading, part in groups.items()}
    heights = [
        cell * -(-len(part) // columns) + 0.35 for part in shown.values()
    ]
    figure = Figure((width, sum(heights) + 0.4), layout='constrained')
    figure.suptitle(title, fontsize=12)
    parts = figure.subfigures(
        len(groups), 1, height_ratios=heights, squeeze=False)
    for part, (heading, found) in zip(parts[:, 0], shown.items()):
        part.suptitle(heading, fontsize=11, x=0.01, ha='left')
        if found:
            _fill(part, found, columns, letters)
    # Enough for images of this size; a finer picture is only larger.
    return save_figure(settle(figure), path, dpi=100)


def _fill(part: Any, images: Sequence[GalleryImage], columns: int,
          letters: int) -> None:
    """Draw the images of one group."""
    rows = -(-len(images) // columns)
    axes = part.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis('off')
    for axis, image in zip(axes, images):
        axis.imshow(image.pixels)
        axis.set_title(
            _caption(image, letters),
            fontsize=_FONT,
            pad=4,
            color=_RIGHT if image.right else _WRONG)


def _caption(image: GalleryImage, letters: int) -> str:
    """Classes and confidence, in lines that fit above the image."""
    if image.caption is not None:
        return '\n'.join(textwrap.wrap(image.caption, letters))
    names = [image.truth]
    if not image.right:
        names.append(f'as {image.predicted}')
    confident = f'{100 * image.confidence:.0f} %'
    text = f'{", ".join(names)}  {confident}'
    if len(text) <= letters:
        return text
    wrap = textwrap.TextWrapper(letters, max_lines=2, placeholder='…')
    lines = [wrap.fill(short(name, 2 * letters - 2)) for name in names]
    return '\n'.join([*lines, confident])


class MappedImage(NamedTuple):
    """One image with the activation map of each exit."""

    pixels: Any  # RGB (H, W, 3), uint8
    maps: Any  # (H, W) in [0, 1] of each exit, None where it has none
    truth: str  # name of its class
    predicted: Sequence[str]  # name of the class at each exit
    exit_index: int  # where it leaves


def mapped_exits(images: Sequence[MappedImage]) -> list[int]:
    """The exits of which any of the images has a map."""
    return sorted({
        k
        for image in images
        for k, found in enumerate(image.maps) if found is not None
    })


def overlay(pixels: Any, found: Any) -> np.ndarray:
    """Lay a map (H, W) in [0, 1] over an RGB image (H, W, 3), uint8."""
    colours = 255 * matplotlib.colormaps['inferno'](np.asarray(found))[..., :3]
    mixed = (1 - _OPACITY) * np.asarray(pixels) + _OPACITY * colours
    return mixed.round().astype(np.uint8)


@styled()
def plot_activation_maps(images: Sequence[MappedImage],
                         path: str | os.PathLike | None = None,
                         title: str = '') -> Figure:
    """Draw one image in each row: itself, and the map of each exit on it.

    Args:
        images (Sequence[MappedImage]): At least one, with at least one map.
        path (str | PathLike, optional): PNG file to write.
        title (str): Of the picture.

    Raises:
        ValueError: If there is no map.
    """
    exits = mapped_exits(images)
    if not exits:
        raise ValueError('a picture of activation maps needs at least one '
                         'image with a map, got none')
    columns = len(exits) + 1
    figure = Figure((1.6 * columns, 1.9 * len(images) + 0.6),
                    layout='constrained')
    figure.suptitle(title, fontsize=11, wrap=True)
    axes = figure.subplots(
        len(images),
        columns,
        squeeze=False,
        subplot_kw=dict(xticks=[], yticks=[]))
    for row, image in zip(axes, images):
        row[0].imshow(image.pixels)
        row[0].set_title(
            f'{short(image.truth, 18)}\nleaves at exit {image.exit_index}',
            fontsize=_FONT)
        for axis, k in zip(row[1:], exits):
            if image.maps[k] is None:
                axis.axis('off')
            else:
                _draw_map(axis, image, k)
    return save_figure(settle(figure), path)


def _draw_map(axis: Any, image: MappedImage, k: int) -> None:
    """Draw the map of an exit, framed where the image leaves there."""
    leaves = k == image.exit_index
    axis.imshow(overlay(image.pixels, image.maps[k]))
    axis.set_title(
        f'exit {k}\n{short(image.predicted[k], 18)}',
        fontsize=_FONT,
        fontweight='bold' if leaves else 'normal')
    axis.spines[:].set_visible(True)
    axis.spines[:].set_edgecolor(COLOURS[2] if leaves else PAPER)
    axis.spines[:].set_linewidth(4 if leaves else 0.5)
