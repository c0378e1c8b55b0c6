# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Pictures of shares, of reliability and of activation maps."""
import os
from typing import Any, NamedTuple, Optional, Sequence, Union

import numpy as np
from matplotlib.figure import Figure

from .figure import COLOURS, save_figure, short

__all__ = [
    'MappedImage', 'plot_activation_maps', 'plot_reliability', 'plot_shares'
]


def plot_shares(budgets: Sequence[float],
                shares: Sequence[Sequence[float]],
                path: Union[str, os.PathLike],
                title: str = '') -> None:
    """Draw how many images leave at each exit, budget by budget.

    Args:
        budgets (Sequence[float]): Mean MACs, rising.
        shares (Sequence[Sequence[float]]): Share of each exit at each
            budget.
        path (str | PathLike): PNG file to write.
        title (str): Title of the picture. Defaults to ''.

    Raises:
        ValueError: If there are not as many shares as budgets, or none.
    """
    if not len(budgets) or len(budgets) != len(shares):
        raise ValueError(f'a picture of shares needs the shares of each '
                         f'budget, got {len(budgets)} budgets and '
                         f'{len(shares)} shares')
    scale, unit = (1e9, 'G') if max(budgets) >= 1e9 else (1e6, 'M')
    rows = 100 * np.asarray(shares, dtype=float).T
    figure = Figure(figsize=(6.2, 4.4))
    axes = figure.add_subplot()
    axes.stackplot(
        [budget / scale for budget in budgets],
        rows,
        colors=[COLOURS[k % len(COLOURS)] for k in range(len(rows))],
        labels=[f'exit {k}' for k in range(len(rows))],
        edgecolor='white',
        linewidth=0.5)
    axes.set_xlabel(f'budget: mean MACs of one image ({unit})')
    axes.set_ylabel('images that leave there (%)')
    axes.set_ylim(0, 100)
    axes.margins(x=0)
    axes.set_title(title)
    axes.legend(
        loc='upper center',
        bbox_to_anchor=(0.5, -0.15),
        ncols=min(len(rows), 5),
        fontsize=9)
    save_figure(figure, path)


def plot_reliability(conf: Any,
                     right: Any,
                     path: Union[str, os.PathLike],
                     title: str = '',
                     errors: Optional[Sequence[float]] = None,
                     bins: int = 15) -> None:
    """Draw for each exit how often it is right at each confidence.

    Args:
        conf (array): Confidences (num_exits, N), in [0, 1].
        right (array): Whether the exit is right (num_exits, N).
        path (str | PathLike): PNG file to write.
        title (str): Title of the picture. Defaults to ''.
        errors (Sequence[float], optional): Expected calibration error of
            each exit, written above it. Defaults to None.
        bins (int): Number of equally wide bins. Defaults to 15.

    Raises:
        ValueError: If the shapes do not fit.
    """
    conf, right = np.asarray(conf), np.asarray(right)
    if conf.ndim != 2 or conf.shape != right.shape or conf.size == 0:
        raise ValueError(f'confidences and hits must be (num_exits, N), got '
                         f'{conf.shape} and {right.shape}')
    num_exits = len(conf)
    figure = Figure(figsize=(2.7 * num_exits + 0.4, 3.9), layout='constrained')
    figure.suptitle(title)
    axes = figure.subplots(
        2,
        num_exits,
        sharex=True,
        sharey='row',
        squeeze=False,
        height_ratios=(3, 1))
    edges = np.linspace(0, 1, bins + 1)
    centres = (edges[:-1] + edges[1:]) / 2
    for k in range(num_exits):
        index = np.clip(np.ceil(conf[k] * bins).astype(int) - 1, 0, bins - 1)
        count = np.bincount(index, minlength=bins)
        hits = np.bincount(index[right[k].astype(bool)], minlength=bins)
        colour = COLOURS[k % len(COLOURS)]
        filled = count > 0
        upper, lower = axes[:, k]
        upper.bar(
            centres[filled],
            hits[filled] / count[filled],
            1 / bins,
            color=colour,
            edgecolor='white')
        upper.plot([0, 1], [0, 1], '--', color='black', linewidth=1)
        error = '' if errors is None else f'\nECE {100 * errors[k]:.1f} %'
        upper.set_title(f'exit {k}{error}', fontsize=10)
        upper.set_xlim(0, 1)
        upper.set_ylim(0, 1)
        lower.bar(
            centres,
            100 * count / count.sum(),
            1 / bins,
            color=colour,
            edgecolor='white')
        lower.set_xlabel('confidence')
    axes[0, 0].set_ylabel('accuracy')
    axes[1, 0].set_ylabel('images (%)')
    save_figure(figure, path)


class MappedImage(NamedTuple):
    """One image with the activation map of each exit.

    Args:
        pixels (ndarray): RGB image (H, W, 3), uint8.
        maps (ndarray): Maps (num_exits, H, W) in [0, 1].
        truth (str): Name of its class.
        predicted (Sequence[str]): Name of the class at each exit.
        exit_index (int): Where it leaves.
    """

    pixels: Any
    maps: Any
    truth: str
    predicted: Sequence[str]
    exit_index: int


def plot_activation_maps(images: Sequence[MappedImage],
                         path: Union[str, os.PathLike],
                         title: str = '') -> None:
    """Draw one image in each row: itself, and the map of each exit on it.

    Args:
        images (Sequence[MappedImage]): At least one.
        path (str | PathLike): PNG file to write.
        title (str): Title of the picture. Defaults to ''.

    Raises:
        ValueError: If there is no image.
    """
    if not images:
        raise ValueError('a picture of activation maps needs at least one '
                         'image, got none')
    num_exits = len(images[0].maps)
    figure = Figure(
        figsize=(1.5 * (num_exits + 1), 1.75 * len(images) + 0.5),
        layout='constrained')
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(len(images), num_exits + 1, squeeze=False)
    for row, image in zip(axes, images):
        for axis in row:
            axis.imshow(image.pixels)
            axis.set_xticks([])
            axis.set_yticks([])
        row[0].set_title(f'class {short(image.truth)}', fontsize=9)
        for k, axis in enumerate(row[1:]):
            axis.imshow(image.maps[k], cmap='inferno', alpha=0.6, vmin=0)
            leaves = k == image.exit_index
            axis.set_title(
                f'exit {k}: {short(image.predicted[k])}',
                fontsize=9,
                fontweight='bold' if leaves else 'normal')
            for spine in axis.spines.values():
                spine.set_edgecolor(COLOURS[2] if leaves else '#bbbbbb')
                spine.set_linewidth(4 if leaves else 0.5)
    save_figure(figure, path)
