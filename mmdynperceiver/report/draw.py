# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""All pictures of a report."""
import os
from functools import partial
from pathlib import Path
from typing import (Any, Callable, Dict, List, NamedTuple, Optional, Sequence,
                    Tuple)

import torch

from .activation_maps import exit_maps, resized
from .contents import Contents
from .curve import Curve, draw_accuracy_macs
from .figure import drawable, save_figure
from .gallery import (GalleryImage, MappedImage, mapped_exits,
                      plot_activation_maps, plot_gallery)
from .pictures import draw_reliability, draw_shares
from .samples import FileImages
from .sweep import select, whole_curve

__all__ = ['Pictures', 'draw_all']

NAMES = {
    'search': 'leaving early, thresholds searched',
    'shares': 'leaving early, thresholds by shares',
    'random': 'leaving at random, same shares'
}
STYLES = {'search': '-', 'shares': '--', 'random': ':'}
# More marked points than this are a curve of their own.
MOST_STARS = 6
# A map of fewer places says nothing about where an exit looks.
LEAST_PLACES = 4
IN_GALLERY, CLIPS_IN_GALLERY = 10, 4


class Pictures(NamedTuple):
    """What was drawn.

    Args:
        plots (tuple[str]): Stems of plots: of each there is a ``.png``, an
            ``.svg`` and, for phones, a ``_narrow.svg``.
        gallery (dict[str, list[GalleryImage]]): Heading -> images; empty
            without images.
        maps (list[MappedImage]): Images with activation maps, if any.
    """

    plots: Sequence[str]
    gallery: Dict[str, List[GalleryImage]]
    maps: List[MappedImage]


def draw_all(folder: Path, contents: Contents, images: Optional[Callable[[int],
                                                                         Any]],
             model: Any, class_names: Optional[Sequence[str]],
             map_samples: Optional[Sequence[int]]) -> Pictures:
    """Draw all pictures; for the arguments see :func:`write_report`.

    Returns:
        Pictures: What cannot be drawn (no images, no latencies) is not
        there.
    """
    map_samples = _map_samples(contents, map_samples)
    plots = _save_plots(folder, contents)
    if images is None and contents.paths and \
            all(os.path.isfile(path) for path in contents.paths[:1]):
        images = FileImages(contents.paths)
    drawn = Pictures(plots, {}, [])
    if images is None:
        return drawn
    names = _class_names(contents, class_names)
    drawn = drawn._replace(gallery=_gallery(contents, images, names))
    title = f'Easy to hard: {contents.shown} {contents.unit}s'
    plot_gallery(
        {
            heading: [_in_fonts(image, names) for image in group]
            for heading, group in drawn.gallery.items()
        }, folder / 'gallery.png', title)
    if model is not None and images(0).inputs is not None:
        maps = _maps(contents, images, model, names, map_samples)
        if mapped_exits(maps):
            drawn = drawn._replace(maps=maps)
            plot_activation_maps([_in_fonts(image, names) for image in maps],
                                 folder / 'activation_maps.png',
                                 'What speaks for the class that each exit '
                                 'predicts')
    return drawn


def _save_plots(folder: Path, contents: Contents) -> Tuple[str, ...]:
    """Draw the plots, and tell their stems."""
    plots: Dict[str, Callable[..., Any]] = {
        'accuracy_macs': partial(_draw_curves, contents, 'macs')
    }
    if contents.latency_ms is not None:
        plots['accuracy_latency'] = partial(_draw_curves, contents,
                                            'latency_ms')
    rows = whole_curve(contents.rows, 'search', contents.shown)
    plots['shares'] = partial(
        draw_shares, [row.macs for row in rows], [row.shares for row in rows],
        title=f'Where {contents.shown} {contents.unit}s leave',
        unit=contents.unit)
    plots['reliability'] = partial(
        draw_reliability,
        contents.judged.confidences.cpu().numpy(),
        contents.judged.right.cpu().numpy(),
        title=f'Reliability of each exit, {contents.shown} {contents.unit}s',
        errors=contents.ece,
        unit=contents.unit)
    for name, draw in plots.items():
        figure = draw()
        save_figure(figure, folder / f'{name}.png')
        save_figure(figure, folder / f'{name}.svg')
        save_figure(draw(narrow=True), folder / f'{name}_narrow.svg')
    return tuple(plots)


def _class_names(contents: Contents,
                 class_names: Optional[Sequence[str]]) -> List[str]:
    """A name for each class that occurs."""
    number = 1 + max(int(contents.predicted.max()), int(contents.labels.max()))
    known = [str(name) for name in class_names or ()]
    return known + [str(k) for k in range(len(known), number)]


def _in_fonts(image: Any, names: Sequence[str]) -> Any:
    """The image with names that Matplotlib's fonts can write."""

    def name(text: str) -> str:
        return drawable(text, f'class {names.index(text)}')

    predicted = image.predicted
    return image._replace(
        truth=name(image.truth),
        predicted=name(predicted)
        if isinstance(predicted, str) else [name(text) for text in predicted])


def _draw_curves(contents: Contents, cost: str, narrow: bool = False) -> Any:
    """Draw accuracy against cost: each policy and each exit."""
    data = contents.shown

    def curve(name: str, rows: Sequence[Any], intervals: bool,
              **kwargs: Any) -> Curve:
        ends = [[100 * end for end in contents.interval(row.accuracy)]
                for row in rows]
        return Curve(
            name, [getattr(row, cost) for row in rows],
            [100 * row.accuracy for row in rows],
            intervals=ends if intervals else None,
            **kwargs)

    curves = [
        curve(
            name,
            whole_curve(contents.rows, series, data),
            # One band is enough to see what chance does.
            series == 'search',
            style=STYLES[series]) for series, name in NAMES.items()
    ]
    exits = select(contents.rows, 'exit', data)
    curves.append(
        curve(
            'always the same exit',
            exits,
            True,
            labels=[row.series for row in exits]))
    if cost == 'macs':
        curves.extend(contents.curves)
    points = [point for point in contents.points if point.data == data]
    few = len(points) <= MOST_STARS
    title = f'{contents.sizes[data]:,} {data} {contents.unit}s'
    return draw_accuracy_macs(
        curves,
        # The name of a config is wider than a phone, and has no spaces.
        title=title if narrow else f'{contents.model_name}, {title}',
        chosen=[(getattr(point, cost), 100 * point.accuracy,
                 point.name if few else '') for point in points],
        cost=cost,
        unit=contents.unit,
        narrow=narrow)


def _spread(indices: Sequence[int], count: int) -> List[int]:
    """At most ``count`` of the indices, evenly spaced."""
    size = min(count, len(indices))
    return [indices[i * len(indices) // size] for i in range(size)]


def _leaving_at(contents: Contents, k: int) -> List[int]:
    """The samples that leave at an exit."""
    return torch.nonzero(contents.exit_index == k).flatten().tolist()


def _gallery(contents: Contents, images: Callable[[int], Any],
             names: Sequence[str]) -> Dict[str, List[GalleryImage]]:
    """Some samples that left at each exit."""
    groups = {}
    total = len(contents.labels)
    count = CLIPS_IN_GALLERY if contents.unit == 'clip' else IN_GALLERY
    for k in range(len(contents.macs)):
        left = _leaving_at(contents, k)
        heading = (f'exit {k}: {len(left) / total:.1%} of the '
                   f'{contents.unit}s left here')
        groups[heading] = [
            GalleryImage(
                images(i).pixels, names[int(contents.labels[i])],
                names[int(contents.predicted[k, i])], float(contents.conf[i]))
            for i in _spread(left, count)
        ]
    return groups


def _map_samples(contents: Contents,
                 map_samples: Optional[Sequence[int]]) -> Sequence[int]:
    """The samples with activation maps: those chosen, or two of each exit."""
    if map_samples is None:
        return [
            i for k in range(len(contents.macs))
            for i in _spread(_leaving_at(contents, k), 2)
        ]
    total = len(contents.labels)
    if not map_samples or not 0 <= min(map_samples) <= max(
            map_samples) < total:
        raise ValueError(f'map_samples must be numbers of samples, 0 to '
                         f'{total - 1}, got {list(map_samples)}')
    return map_samples


def _maps(contents: Contents, images: Callable[[int], Any], model: Any,
          names: Sequence[str],
          map_samples: Sequence[int]) -> List[MappedImage]:
    """The activation maps of some samples."""
    model = model.eval()
    device = next(model.parameters()).device
    drawn = []
    for i in map_samples:
        sample = images(i)
        # One by one: images of a data set need not have one size.
        found = exit_maps(model, sample.inputs[None].to(device),
                          contents.predicted[:, i:i + 1])
        size = sample.pixels.shape[:2]
        maps = [
            resized(part, size)[0].cpu().numpy()
            if min(part.shape[1:]) >= LEAST_PLACES else None for part in found
        ]
        drawn.append(
            MappedImage(sample.pixels, maps, names[int(contents.labels[i])],
                        [names[int(k)] for k in contents.predicted[:, i]],
                        int(contents.exit_index[i])))
    return drawn
