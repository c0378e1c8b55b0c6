# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""All pictures of a report."""
import os
from pathlib import Path
from typing import Any, Callable, NamedTuple, Sequence

import torch

from .activation_maps import exit_maps, resized
from .contents import Contents
from .curve import Curve, plot_accuracy_macs
from .figure import drawable, save_figure
from .gallery import (GalleryImage, MappedImage, mapped_exits,
                      plot_activation_maps, plot_gallery)
from .pictures import plot_reliability, plot_shares
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

Images = Callable[[int], Any]


class Pictures(NamedTuple):
    """What was drawn of samples; nothing where there are no images."""

    gallery: dict[str, list[GalleryImage]]  # heading -> images
    maps: list[MappedImage]


def draw_all(folder: Path, contents: Contents, images: Images | None,
             model: Any, class_names: Sequence[str] | None,
             map_samples: Sequence[int] | None) -> Pictures:
    """Draw all pictures; for the arguments see :func:`write_report`."""
    map_samples = _map_samples(contents, map_samples)
    _save_plots(folder, contents)
    if images is None and any(map(os.path.isfile, contents.paths[:1])):
        images = FileImages(contents.paths)
    if images is None:
        return Pictures({}, [])
    # A name for each class that occurs.
    number = 1 + max(int(contents.predicted.max()), int(contents.labels.max()))
    names = [str(name) for name in class_names or ()]
    names += [str(k) for k in range(len(names), number)]
    gallery = _gallery(contents, images, names)
    shown = {key: _in_fonts(group, names) for key, group in gallery.items()}
    plot_gallery(shown, folder / 'gallery.png',
                 f'Easy to hard: {contents.shown} {contents.unit}s')
    maps = []
    if model is not None and images(0).inputs is not None:
        maps = _maps(contents, images, model, names, map_samples)
    if not mapped_exits(maps):
        return Pictures(gallery, [])
    plot_activation_maps(
        _in_fonts(maps, names), folder / 'activation_maps.png',
        'What speaks for the class that each exit predicts')
    return Pictures(gallery, maps)


def _save_plots(folder: Path, contents: Contents) -> None:
    """Draw the plots: PNG, SVG for wide pages, and SVG for phones."""

    def save(name: str, plot: Any, *args: Any, **kwargs: Any) -> None:
        figure = plot(*args, folder / f'{name}.png', **kwargs)
        save_figure(figure, folder / f'{name}.svg')
        plot(*args, folder / f'{name}_narrow.svg', narrow=True, **kwargs)

    unit, judged = contents.unit, contents.judged
    what = f'{contents.shown} {unit}s'
    save('accuracy_macs', _plot_curves, contents, 'macs')
    if contents.latency_ms is not None:
        save('accuracy_latency', _plot_curves, contents, 'latency_ms')
    rows = whole_curve(contents.rows, 'search', contents.shown)
    save(
        'shares',
        plot_shares, [row.macs for row in rows], [row.shares for row in rows],
        title=f'Where {what} leave',
        unit=unit)
    save(
        'reliability',
        plot_reliability,
        judged.confidence.cpu().numpy(),
        judged.utility.cpu().numpy(),
        title=f'Reliability of each exit, {what}',
        errors=contents.ece,
        unit=unit)


def _plot_curves(contents: Contents,
                 cost: str,
                 path: Path,
                 narrow: bool = False) -> Any:
    """Draw accuracy against cost: each policy and each exit."""
    data = contents.shown

    def curve(name: str, rows: Sequence[Any], intervals: bool,
              **kwargs: Any) -> Curve:
        ends: Any = [[100 * end for end in contents.interval(row.utility)]
                     for row in rows]
        return Curve(
            name, [getattr(row, cost) for row in rows],
            [100 * row.utility for row in rows],
            intervals=ends if intervals else None,
            **kwargs)

    # One band is enough to see what chance does.
    curves = [
        curve(
            name,
            whole_curve(contents.rows, series, data),
            series == 'search',
            style=STYLES[series]) for series, name in NAMES.items()
    ]
    exits = select(contents.rows, 'exit', data)
    labels = [row.series for row in exits]
    curves.append(curve('always the same exit', exits, True, labels=labels))
    if cost == 'macs':
        curves.extend(contents.curves)
    points = contents.shown_points
    few = len(points) <= MOST_STARS
    title = f'{contents.sizes[data]:,} {data} {contents.unit}s'
    return plot_accuracy_macs(
        curves,
        path,
        # The name of a config is wider than a phone, and has no spaces.
        title if narrow else f'{contents.model_name}, {title}',
        chosen=[(getattr(point, cost), 100 * point.accuracy,
                 point.name if few else '') for point in points],
        cost=cost,
        unit=contents.unit,
        narrow=narrow)


def _in_fonts(images: Sequence[Any], names: Sequence[str]) -> list[Any]:
    """The images with names that Matplotlib's fonts can write."""

    def name(text: Any) -> Any:
        if not isinstance(text, str):
            return [name(part) for part in text]
        return drawable(text, f'class {names.index(text)}')

    return [
        image._replace(
            truth=name(image.truth), predicted=name(image.predicted))
        for image in images
    ]


def _leaving_at(contents: Contents, k: int, count: int) -> list[int]:
    """At most so many of the samples that leave at an exit, evenly spaced."""
    found = torch.nonzero(contents.exit_index == k).flatten().tolist()
    count = min(count, len(found))
    return [found[i * len(found) // count] for i in range(count)]


def _gallery(contents: Contents, images: Images,
             names: Sequence[str]) -> dict[str, list[GalleryImage]]:
    """Some samples that left at each exit."""
    groups = {}
    count = CLIPS_IN_GALLERY if contents.unit == 'clip' else IN_GALLERY
    for k in range(len(contents.macs)):
        share = (contents.exit_index == k).double().mean().item()
        heading = f'exit {k}: {share:.1%} of the {contents.unit}s left here'
        groups[heading] = [
            GalleryImage(
                images(i).pixels, names[int(contents.labels[i])],
                names[int(contents.predicted[k, i])], float(contents.conf[i]))
            for i in _leaving_at(contents, k, count)
        ]
    return groups


def _map_samples(contents: Contents,
                 map_samples: Sequence[int] | None) -> Sequence[int]:
    """The samples with activation maps: those chosen, or two of each exit."""
    if map_samples is None:
        exits = range(len(contents.macs))
        return [i for k in exits for i in _leaving_at(contents, k, 2)]
    total = len(contents.labels)
    if not map_samples or not 0 <= min(map_samples) <= max(
            map_samples) < total:
        raise ValueError(f'map_samples must be numbers of samples, 0 to '
                         f'{total - 1}, got {list(map_samples)}')
    return map_samples


def _maps(contents: Contents, images: Images, model: Any, names: Sequence[str],
          map_samples: Sequence[int]) -> list[MappedImage]:
    """The activation maps of some samples."""
    model = model.eval()
    device = next(model.parameters()).device
    drawn = []
    for i in map_samples:
        sample = images(i)
        predicted = contents.predicted[:, i]
        # One by one: images of a data set need not have one size.
        found = exit_maps(model, sample.inputs[None].to(device),
                          predicted[:, None])
        size = sample.pixels.shape[:2]
        maps = [
            resized(part, size)[0].cpu().numpy()
            if min(part.shape[1:]) >= LEAST_PLACES else None for part in found
        ]
        drawn.append(
            MappedImage(sample.pixels, maps, names[int(contents.labels[i])],
                        [names[int(k)] for k in predicted],
                        int(contents.exit_index[i])))
    return drawn
