# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Pictures of shares and of reliability."""
import os
from typing import Any, Sequence

import numpy as np
from matplotlib.figure import Figure

from .curve import NARROW, WIDE, cost_axis
from .figure import INK, PAPER, exit_colour, save_figure, settle, styled

__all__ = ['plot_reliability', 'plot_shares']


@styled()
def plot_shares(macs: Sequence[float],
                shares: Sequence[Sequence[float]],
                path: str | os.PathLike | None = None,
                title: str = '',
                unit: str = 'image',
                narrow: bool = False) -> Figure:
    """Draw how many images leave at each exit, from cheap to expensive.

    Args:
        macs (Sequence[float]): Mean MACs (N,), rising.
        shares (Sequence[Sequence[float]]): Share of each exit (N, num_exits).
        path (str | PathLike, optional): PNG or SVG file to write.
        title (str): Of the picture.
        unit (str): What the network takes, 'image' or 'clip'.
        narrow (bool): Whether it is for a phone.

    Raises:
        ValueError: If there are not as many shares as costs, or none.
    """
    if not len(macs) or len(macs) != len(shares):
        raise ValueError(f'a picture of shares needs the shares at each mean '
                         f'cost, got {len(macs)} costs and {len(shares)} '
                         f'shares')
    scale, label = cost_axis('macs', max(macs), unit)
    rows = 100 * np.asarray(shares, dtype=float).T
    width, height = NARROW if narrow else WIDE
    figure = Figure((width, 0.9 * height), layout='constrained')
    axes = figure.add_subplot()
    axes.stackplot(
        np.divide(macs, scale),
        rows,
        colors=[exit_colour(k) for k in range(len(rows))],
        labels=[f'exit {k}' for k in range(len(rows))],
        edgecolor=PAPER,
        linewidth=0.5)
    axes.set(
        xlabel=label, ylabel=f'{unit}s that leave there (%)', ylim=(0, 100))
    axes.margins(x=0)
    axes.set_title(title, wrap=True)
    figure.legend(
        loc='outside lower left', ncols=3 if narrow else 6, fontsize=9)
    return save_figure(settle(figure), path)


@styled()
def plot_reliability(conf: Any,
                     right: Any,
                     path: str | os.PathLike | None = None,
                     title: str = '',
                     errors: Sequence[float] | None = None,
                     bins: int = 15,
                     unit: str = 'image',
                     narrow: bool = False) -> Figure:
    """Draw for each exit how often it is right at each confidence.

    Args:
        conf (array): Confidences (num_exits, N), in [0, 1].
        right (array): Whether the exit is right (num_exits, N).
        path (str | PathLike, optional): PNG or SVG file to write.
        title (str): Of the picture.
        errors (Sequence[float], optional): Expected calibration error of
            each exit, in [0, 1], written above it.
        bins (int): Number of equally wide bins.
        unit (str): What the network takes, 'image' or 'clip'.
        narrow (bool): Whether it is for a phone.

    Raises:
        ValueError: If the shapes do not fit.
    """
    conf, right = np.asarray(conf), np.asarray(right)
    if conf.ndim != 2 or conf.shape != right.shape or conf.size == 0:
        raise ValueError(f'confidences and hits must be (num_exits, N), got '
                         f'{conf.shape} and {right.shape}')
    columns = min(len(conf), 2 if narrow else 4)
    rows = -(-len(conf) // columns)
    width = NARROW[0] if narrow else 2.3 * columns + 0.4
    figure = Figure((width, (2.9 if narrow else 3.7) * rows + 0.3),
                    layout='constrained')
    figure.suptitle(title, fontsize=11, wrap=True)
    axes = figure.subplots(
        2 * rows,
        columns,
        sharex=True,
        squeeze=False,
        height_ratios=(3, 1) * rows)
    # [2 * rows, columns] -> [rows * columns, 2]
    pairs = axes.reshape(rows, 2, columns).swapaxes(1, 2).reshape(-1, 2)
    for axis in pairs[len(conf):].flat:
        axis.axis('off')
    for k, (upper, lower) in enumerate(pairs[:len(conf)]):
        _draw_exit(upper, lower, conf[k], right[k].astype(bool), bins,
                   exit_colour(k))
        error = '' if errors is None else f'\nECE {100 * errors[k]:.1f} %'
        upper.set_title(f'exit {k}{error}', fontsize=10)
        if k % columns == 0:
            upper.set_ylabel('accuracy')
            lower.set_ylabel(f'{unit}s (%)')
        if k + columns >= len(conf):
            lower.set_xlabel('confidence')
            lower.tick_params(labelbottom=True)
    return save_figure(settle(figure), path)


def _draw_exit(upper: Any, lower: Any, conf: Any, right: Any, bins: int,
               colour: str) -> None:
    """Draw the accuracy and the number of images in each bin of one exit."""
    edges = np.linspace(0, 1, bins + 1)
    centres = (edges[:-1] + edges[1:]) / 2
    index = np.clip(np.ceil(conf * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    hits = np.bincount(index[right], minlength=bins)
    filled = count > 0
    style = dict(width=1 / bins, color=colour, edgecolor=PAPER, linewidth=0.5)
    upper.bar(centres[filled], hits[filled] / count[filled], **style)
    upper.plot([0, 1], [0, 1], '--', color=INK, linewidth=1)
    upper.set(xlim=(0, 1), ylim=(0, 1))
    upper.set_xticks([0, 0.5, 1], ['0', '0.5', '1'])
    lower.bar(centres, 100 * count / count.sum(), **style)
