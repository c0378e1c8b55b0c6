# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Accuracy against measured latency."""
import os
from typing import Any, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from .curve import LINES, Curve, plot_accuracy_macs
from .curve_files import published_curves
from .figure import exit_colour

__all__ = ['plot_accuracy_latency']

# What a config's name says of the network, and its published curve.
_FAMILIES = dict(
    regnety=('fig8b', 'Dyn-Perceiver (RegNet-Y)'),
    mobilenetv3=('fig9', 'Dyn-Perceiver (MobileNet-v3)'),
    resnet50=('fig8a', 'Dyn-Perceiver (ResNet)'))

Row = Mapping[str, Any]


def plot_accuracy_latency(rows: Sequence[Row],
                          path: str | os.PathLike | None = None) -> Figure:
    """Draw accuracy against latency: a colour for each network.

    A mode has its kind of line. Dots are exits, lines leaving early: by
    thresholds that were found on the images measured, or by the points that
    the authors published, whose latency is that of as many MACs between the
    exits. Stars are what leaving early at the given thresholds took.

    Args:
        rows (Sequence[Mapping[str, Any]]): ``compared`` of
            ``tools/benchmark.py``; those without ``top1`` are left out.
        path (str | PathLike, optional): PNG or SVG file to write.

    Raises:
        ValueError: If no row has an accuracy.
    """
    rows = [row for row in rows if 'top1' in row]
    names = list(dict.fromkeys(row['name'] for row in rows))
    modes = list(dict.fromkeys(row['mode'] for row in rows))
    shown, shared = _networks(names)
    curves: list[Curve] = []
    note = 'dots: always the same exit; thick lines: leaving early'
    early = [row['top1'].get('curve') or _published(row, rows) for row in rows]
    for row, points in zip(rows, early):
        number = names.index(row['name'])
        name = shown[number]
        if len(modes) > 1:
            name += f', {row["mode"]}'
        line = LINES[modes.index(row['mode']) % len(LINES)]
        curves += _draw(row, points, name, line, exit_colour(number))
    if any(_published(row, rows) for row in rows):
        note += ' as published'
    if any('shares' not in point for points in early for point in points):
        note += ', latency estimated from MACs'
    about = [shared] if shared else []
    about += [f'batch {row["batch_size"]}' for row in rows[:1]]
    about += modes if len(modes) == 1 else []
    title = f'{", ".join(about)}\n{note}'
    return plot_accuracy_macs(
        curves, path, title, cost='latency_ms', legend=False)


def _networks(names: Sequence[str]) -> tuple[list[str], str]:
    """Of configs' names, what tells the networks apart, and what all share."""
    found = []
    for name in names:
        name, *kind = name.split(' ')
        if ':' not in name:
            name = '_'.join(name.split('_')[:2])
        found.append([*name.rpartition(':')[2].split('_'), ' '.join(kind)])
    shared: list[str] = []
    if len({len(parts) for parts in found}) == 1 < len(found):
        while len(found[0]) > 2 and len({parts[-2] for parts in found}) == 1:
            shared.insert(0, found[0][-2])
            for parts in found:
                del parts[-2]
    return [
        ' '.join(['_'.join(parts[:-1]), parts[-1]]).rstrip() for parts in found
    ], '_'.join(shared)


def _draw(row: Row, points: list[dict[str, Any]], name: str, line: str,
          colour: str) -> list[Curve]:
    """The exits of a network, what its thresholds bring, and leaving early."""
    exits, top1, size = row['exits'], row['top1'], row['batch_size']
    ms = [found['median_ms'] / size for found in exits]
    several = len(exits) > 1
    labels = [f'{found["exit"]}' if several else '' for found in exits]
    style = f'o{line}' if several else 's'
    curves = [Curve(name, ms, top1['exits'], labels, style, colour=colour)]
    if 'dynamic' in row and 'dynamic' in top1:
        found = [row['dynamic']['mean_ms'] / size], [top1['dynamic']]
        curves.append(Curve('', *found, ['leaving early'], '*', colour=colour))
    if points:
        macs = [found.get('macs', 0.) for found in exits]
        means = [
            float(np.dot(point['shares'], ms)) if 'shares' in point else float(
                np.interp(point['macs'], macs, ms)) for point in points
        ]
        accuracies = [point['top1'] for point in points]
        curves.append(Curve('', means, accuracies, style=line, colour=colour))
    return curves


def _published(row: Row, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Published points of leaving early with a network.

    The authors' curve is of all sizes of a family. A point belongs to the
    smallest network here that has such MACs, and to none if it is better
    than that network's exits.
    """
    curve = _family(row)
    if curve is None or row['top1'].get('curve'):
        return []
    first, last = (row['exits'][k]['macs'] for k in (0, -1))
    smaller = [
        other['exits'][-1]['macs'] for other in rows if _family(other) == curve
        and other['mode'] == row['mode'] and other['exits'][-1]['macs'] < last
    ]
    return [
        dict(macs=macs, top1=accuracy)
        for macs, accuracy in zip(curve.macs, curve.accuracy)
        if max([0, *smaller]) < macs and first <= macs <= last
        and accuracy <= max(row['top1']['exits'])
    ]


def _family(row: Row) -> Curve | None:
    """The published curve of the family of a network on ImageNet."""
    name = row['name']
    if len(row['exits']) == 1 or 'macs' not in row['exits'][0] or not (
            name.startswith('dyn-perceiver_') and '_in1k' in name):
        return None
    for part, (figure, network) in _FAMILIES.items():
        if part in name:
            return published_curves(figure, network)[0]
    return None
