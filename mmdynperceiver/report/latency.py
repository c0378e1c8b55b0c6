# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Accuracy against measured latency."""
import os
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
from matplotlib.figure import Figure

from .curve import LINES, Curve, draw_accuracy_macs
from .figure import COLOURS, save_figure
from .published import published_curves

__all__ = ['draw_accuracy_latency', 'plot_accuracy_latency']

# What a config's name says of the network, and its published curve.
_FAMILIES = dict(
    regnety=('fig8b', 'Dyn-Perceiver (RegNet-Y)'),
    mobilenetv3=('fig9', 'Dyn-Perceiver (MobileNet-v3)'),
    resnet50=('fig8a', 'Dyn-Perceiver (ResNet)'))

Row = Mapping[str, Any]


def plot_accuracy_latency(rows: Sequence[Row],
                          path: Union[str, os.PathLike]) -> None:
    """Write a picture of what ``tools/benchmark.py`` found.

    Args:
        rows (Sequence[Mapping[str, Any]]): Of its ``compared``; those
            without ``top1`` are left out.
        path (str | PathLike): PNG or SVG file to write.

    Raises:
        ValueError: If no row has an accuracy.
    """
    save_figure(draw_accuracy_latency(rows), path)


def draw_accuracy_latency(rows: Sequence[Row]) -> Figure:
    """Draw accuracy against latency: a colour for each network.

    A mode has its kind of line. Dots are exits, lines leaving early: by
    thresholds that were found on the images measured, or by the points that
    the authors published, whose latency is that of as many MACs between the
    exits. Stars are what leaving early at the given thresholds took.

    Args:
        rows (Sequence[Mapping[str, Any]]): Of ``compared``; those without
            ``top1`` are left out.

    Returns:
        Figure: The picture.

    Raises:
        ValueError: If no row has an accuracy.
    """
    rows = [row for row in rows if 'top1' in row]
    names = list(dict.fromkeys(row['name'] for row in rows))
    shown, shared = _networks(names)
    modes = list(dict.fromkeys(row['mode'] for row in rows))
    curves: List[Curve] = []
    title = [shared] if shared else []
    title += [f'batch {row["batch_size"]}' for row in rows[:1]]
    title += modes if len(modes) == 1 else []
    for row in rows:
        colour = COLOURS[names.index(row['name']) % len(COLOURS)]
        line = LINES[modes.index(row['mode']) % len(LINES)]
        name = shown[names.index(row['name'])]
        if len(modes) > 1:
            name += f', {row["mode"]}'
        curves += _exits(row, name, line, colour)
        early = _early_exit(row, rows)
        if early is not None:
            curves.append(Curve('', *early, style=line, colour=colour))
    title.append('dots: always the same exit; thick lines: leaving early')
    if any(_published(row, rows) for row in rows):
        title[-1] += ' as published'
    if any('macs' in point for row in rows
           for point in row['top1'].get('curve') or _published(row, rows)):
        title[-1] += ', latency estimated from MACs'
    return draw_accuracy_macs(
        curves,
        ', '.join(title[:-1]) + '\n' + title[-1],
        cost='latency_ms',
        legend=False)


def _networks(names: Sequence[str]) -> Tuple[List[str], str]:
    """Of configs' names, what tells the networks apart, and what all share."""
    found = []
    for name in names:
        name, *kind = name.split(' ')
        if ':' not in name:
            name = '_'.join(name.split('_')[:2])
        found.append([*name.rpartition(':')[2].split('_'), ' '.join(kind)])
    shared: List[str] = []
    if len({len(parts) for parts in found}) == 1 < len(found):
        while len(found[0]) > 2 and len({parts[-2] for parts in found}) == 1:
            shared.insert(0, found[0][-2])
            for parts in found:
                del parts[-2]
    return [
        ' '.join(['_'.join(parts[:-1]), parts[-1]]).rstrip() for parts in found
    ], '_'.join(shared)


def _exits(row: Row, name: str, line: str, colour: str) -> List[Curve]:
    """The exits of a network, and what its own thresholds bring."""
    size, top1 = row['batch_size'], row['top1']
    several = len(row['exits']) > 1
    curves = [
        Curve(
            name, [found['median_ms'] / size for found in row['exits']],
            top1['exits'],
            labels=[
                f'{found["exit"]}' if several else '' for found in row['exits']
            ],
            style=f'o{line}' if several else 's',
            colour=colour)
    ]
    if 'dynamic' in row and 'dynamic' in top1:
        curves.append(
            Curve(
                '', [row['dynamic']['mean_ms'] / size], [top1['dynamic']],
                labels=['leaving early'],
                style='*',
                colour=colour))
    return curves


def _early_exit(row: Row, rows: Sequence[Row]) -> Optional[Tuple[Any, Any]]:
    """Mean latencies and accuracies along the curve of leaving early."""
    ms = [found['median_ms'] / row['batch_size'] for found in row['exits']]
    points = row['top1'].get('curve') or _published(row, rows)
    if not points:
        return None
    macs = [found.get('macs', 0.) for found in row['exits']]
    return ([
        float(
            np.dot(point['shares'], ms) if 'shares' in
            point else np.interp(point['macs'], macs, ms)) for point in points
    ], [point['top1'] for point in points])


def _published(row: Row, rows: Sequence[Row]) -> List[Dict[str, float]]:
    """Published points of leaving early with a network.

    The authors' curve is of all sizes of a family. A point belongs to the
    smallest network here that has such MACs, and to none if it is better
    than that network's exits.
    """
    curve = _family(row)
    if curve is None or row['top1'].get('curve'):
        return []
    best = max(row['top1']['exits'])
    likes = [
        other for other in rows
        if _family(other) == curve and other['mode'] == row['mode']
    ]
    return [
        dict(macs=macs, top1=accuracy)
        for macs, accuracy in zip(curve.macs, curve.accuracy)
        if _range(row)[0] <= macs <= _range(row)[1] and accuracy <= best
        and not any(
            _range(other)[1] < _range(row)[1] and macs <= _range(other)[1]
            for other in likes)
    ]


def _family(row: Row) -> Optional[Curve]:
    """The published curve of the family of a network on ImageNet."""
    if len(row['exits']) == 1 or 'macs' not in row['exits'][0] or not (
            row['name'].startswith('dyn-perceiver_')
            and '_in1k' in row['name']):
        return None
    for part, (figure, network) in _FAMILIES.items():
        if part in row['name']:
            return published_curves(figure, network)[0]
    return None


def _range(row: Row) -> Tuple[float, float]:
    """MACs of the first exit and of the last one."""
    return row['exits'][0]['macs'], row['exits'][-1]['macs']
