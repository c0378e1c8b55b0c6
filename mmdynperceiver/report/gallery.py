# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Easy and hard images: what left at which exit."""
import os
from typing import Any, Mapping, NamedTuple, Optional, Sequence, Union

from matplotlib.figure import Figure

from .figure import save_figure, short

__all__ = ['GalleryImage', 'plot_gallery']

_RIGHT, _WRONG = '#00664a', '#c02000'


class GalleryImage(NamedTuple):
    """One image of a gallery.

    Args:
        pixels (ndarray): RGB image (H, W, 3), uint8.
        truth (str): Name of its class.
        predicted (str): Name of the class that it got.
        confidence (float): Confidence at the exit, in [0, 1].
        caption (str, optional): Written above it. Defaults to None, the
            classes and the confidence.
    """

    pixels: Any
    truth: str
    predicted: str
    confidence: float
    caption: Optional[str] = None


def plot_gallery(groups: Mapping[str, Sequence[GalleryImage]],
                 path: Union[str, os.PathLike],
                 title: str = '',
                 columns: int = 10,
                 side: float = 1.05) -> None:
    """Draw groups of images below each other.

    Args:
        groups (Mapping[str, Sequence[GalleryImage]]): Heading -> images.
        path (str | PathLike): PNG file to write.
        title (str): Title of the picture. Defaults to ''.
        columns (int): Images in a row. Defaults to 10.
        side (float): Side of an image in inches. Defaults to 1.05.

    Raises:
        ValueError: If there is no group.
    """
    if not groups:
        raise ValueError('a gallery needs at least one group, got none')
    shapes = [image.pixels.shape for part in groups.values() for image in part]
    # Film strips need a wider place than images.
    aspect = max((width / height for height, width, _ in shapes), default=1.)
    width = side * columns
    columns = max(1, int(columns / max(aspect, 1.)))
    cell = width / columns / max(aspect, 1.) + 0.25
    heights = [
        cell * -(-len(images) // columns) + 0.45 for images in groups.values()
    ]
    figure = Figure(figsize=(width, sum(heights) + 0.3), layout='constrained')
    figure.suptitle(title, fontsize=12)
    parts = figure.subfigures(
        len(groups), 1, height_ratios=heights, squeeze=False)
    for part, (heading, images) in zip(parts[:, 0], groups.items()):
        part.suptitle(heading, fontsize=11, x=0.01, ha='left')
        if not images:
            continue
        rows = -(-len(images) // columns)
        axes = part.subplots(rows, columns, squeeze=False).ravel()
        for axis in axes:
            axis.axis('off')
        for axis, image in zip(axes, images):
            axis.imshow(image.pixels)
            right = image.truth == image.predicted
            axis.set_title(
                _caption(image), fontsize=8, color=_RIGHT if right else _WRONG)
    # Enough for images of this size; a finer picture is only larger.
    save_figure(figure, path, dpi=90)


def _caption(image: GalleryImage) -> str:
    """Classes and confidence, in one line if they are short."""
    if image.caption is not None:
        return image.caption
    lines = [short(image.truth)]
    if image.predicted != image.truth:
        lines.append(f'as {short(image.predicted, 11)}')
    confident = f'{100 * image.confidence:.0f} %'
    text = ' '.join(lines)
    if len(text) <= 9:
        return f'{text}  {confident}'
    return '\n'.join([*lines, confident])
