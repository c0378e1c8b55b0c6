# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""All pictures of a report."""
import os
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

import torch

from .activation_maps import activation_maps
from .contents import Contents
from .curve import Curve, plot_accuracy_macs
from .gallery import GalleryImage, plot_gallery
from .pictures import (MappedImage, plot_activation_maps, plot_reliability,
                       plot_shares)
from .samples import FileImages
from .sweep import select

__all__ = ['draw_all']

NAMES = {
    'search': 'leaving early, thresholds searched',
    'shares': 'leaving early, thresholds by shares',
    'random': 'leaving at random, same shares'
}
STYLES = {'search': '-', 'shares': '--', 'random': ':'}
# More marked points than this are a curve of their own.
MOST_STARS = 6


def draw_all(folder: Path, contents: Contents, images: Optional[Callable[[int],
                                                                         Any]],
             model: Any, class_names: Optional[Sequence[str]],
             map_samples: Optional[Sequence[int]]) -> Dict[str, str]:
    """Draw all pictures; for the arguments see :func:`write_report`.

    Returns:
        dict[str, str]: Name of the picture -> name of its file; a picture
        that cannot be drawn (no images, no latencies) is not there.
    """
    drawn = {'accuracy_macs': 'accuracy_macs.png'}
    _draw_curves(folder / drawn['accuracy_macs'], contents, 'macs')
    if contents.latency_ms is not None:
        drawn['accuracy_latency'] = 'accuracy_latency.png'
        _draw_curves(folder / drawn['accuracy_latency'], contents,
                     'latency_ms')
    drawn['shares'] = 'shares.png'
    rows = [
        row for row in contents.rows
        if (row.series, row.data) == ('search', contents.shown)
    ]
    plot_shares([row.budget or 0. for row in rows],
                [row.shares for row in rows],
                folder / drawn['shares'],
                title=f'Where {contents.shown} images leave')
    drawn['reliability'] = 'reliability.png'
    plot_reliability(
        contents.judged.confidences.cpu().numpy(),
        contents.judged.right.cpu().numpy(),
        folder / drawn['reliability'],
        title=f'Reliability of each exit, {contents.shown} images',
        errors=contents.ece)
    if images is None and contents.paths and \
            all(os.path.isfile(path) for path in contents.paths[:1]):
        images = FileImages(contents.paths)
    if images is None:
        return drawn
    names = class_names or [
        str(k) for k in range(int(contents.predicted.max()) + 1)
    ]
    names = [
        str(names[k]) if k < len(names) else str(k) for k in range(
            1 + max(int(contents.predicted.max()), int(contents.labels.max())))
    ]
    drawn['gallery'] = 'gallery.png'
    _draw_gallery(folder / drawn['gallery'], contents, images, names)
    if model is not None and images(0).inputs is not None:
        drawn['activation_maps'] = 'activation_maps.png'
        _draw_maps(folder / drawn['activation_maps'], contents, images, model,
                   names, map_samples)
    return drawn


def _draw_curves(path: Path, contents: Contents, cost: str) -> None:
    """Draw accuracy against cost: each policy and each exit."""
    data = contents.shown
    curves: List[Curve] = []
    for series, name in NAMES.items():
        rows = select(contents.rows, series, data)
        curves.append(
            Curve(
                name, [getattr(row, cost) for row in rows],
                [100 * row.accuracy for row in rows],
                style=STYLES[series]))
    exits = select(contents.rows, 'exit', data)
    curves.append(
        Curve('always the same exit', [getattr(row, cost) for row in exits],
              [100 * row.accuracy for row in exits],
              [row.series for row in exits]))
    if cost == 'macs':
        curves.extend(contents.curves)
    points = [point for point in contents.points if point.data == data]
    few = len(points) <= MOST_STARS
    plot_accuracy_macs(
        curves,
        path,
        title=f'{contents.model_name}, {contents.sizes[data]:,} {data} images',
        chosen=[(getattr(point, cost), 100 * point.accuracy,
                 point.name if few else '') for point in points],
        cost=cost)


def _spread(indices: Sequence[int], count: int) -> List[int]:
    """At most ``count`` of the indices, evenly spaced."""
    size = min(count, len(indices))
    return [indices[i * len(indices) // size] for i in range(size)]


def _leaving_at(contents: Contents, k: int) -> List[int]:
    """The samples that leave at an exit."""
    return torch.nonzero(contents.exit_index == k).flatten().tolist()


def _draw_gallery(path: Path, contents: Contents, images: Callable[[int], Any],
                  names: Sequence[str]) -> None:
    """Draw up to ten samples that left at each exit."""
    groups = {}
    total = len(contents.labels)
    for k in range(len(contents.macs)):
        left = _leaving_at(contents, k)
        heading = f'exit {k}: {len(left) / total:.1%} of the images left here'
        groups[heading] = [
            GalleryImage(
                images(i).pixels, names[int(contents.labels[i])],
                names[int(contents.predicted[k, i])], float(contents.conf[i]))
            for i in _spread(left, 10)
        ]
    plot_gallery(groups, path, title=f'Easy to hard: {contents.shown} images')


def _draw_maps(path: Path, contents: Contents, images: Callable[[int], Any],
               model: Any, names: Sequence[str],
               map_samples: Optional[Sequence[int]]) -> None:
    """Draw the activation maps of chosen samples, or two of each exit."""
    if map_samples is None:
        map_samples = [
            i for k in range(len(contents.macs))
            for i in _spread(_leaving_at(contents, k), 2)
        ]
    total = len(contents.labels)
    if not map_samples or not 0 <= min(map_samples) <= max(
            map_samples) < total:
        raise ValueError(f'map_samples must be numbers of samples, 0 to '
                         f'{total - 1}, got {list(map_samples)}')
    model = model.eval()
    device = next(model.parameters()).device
    drawn = []
    for i in map_samples:
        sample = images(i)
        # One by one: images of a data set need not have one size.
        maps = activation_maps(model, sample.inputs[None].to(device),
                               contents.predicted[:, i:i + 1])
        drawn.append(
            MappedImage(sample.pixels, maps[:, 0].cpu().numpy(),
                        names[int(contents.labels[i])],
                        [names[int(k)] for k in contents.predicted[:, i]],
                        int(contents.exit_index[i])))
    plot_activation_maps(
        drawn,
        path,
        title='What speaks for the class that each exit predicts\n'
        '(framed: the exit where the image leaves)')
