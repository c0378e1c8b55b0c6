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
        path (str | PathLike, optional): PNG or SVG file to write. Defaults
            to None, none.

    Returns:
        Figure: The picture.

    Raises:
        ValueError: If no row has an accuracy.
    """
    rows = [row for row in rows if 'top1' in row]
    names = list(dict.fromkeys(row['name'] for row in rows))
    modes = list(dict.fromkeys(row['mode'] for row in rows))
    shown, shared = _networks(names)
    curves: list[Curve] = []
    for row in rows:
        number = names.index(row['name'])
        colour = exit_colour(number)
        line = LINES[modes.index(row['mode']) % len(LINES)]
        name = shown[number]
        if len(modes) > 1:
            name += f', {row["mode"]}'
        curves += _exits(row, name, line, colour)
        points = _early_exits(row, rows)
        if points:
            curves.append(
                Curve('', *_latencies(row, points), style=line, colour=colour))
    title = [shared, *(f'batch {row["batch_size"]}' for row in rows[:1])]
    title += modes if len(modes) == 1 else []
    note = 'dots: always the same exit; thick lines: leaving early'
    if any(_published(row, rows) for row in rows):
        note += ' as published'
    if any('macs' in point for row in rows
           for point in _early_exits(row, rows)):
        note += ', latency estimated from MACs'
    title_lines = ', '.join(filter(None, title)) + '\n' + note
    return plot_accuracy_macs(
        curves, path, title_lines, cost='latency_ms', legend=False)


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


def _exits(row: Row, name: str, line: str, colour: str) -> list[Curve]:
    """The exits of a network, and what its own thresholds bring."""
    exits, top1, size = row['exits'], row['top1'], row['batch_size']
    several = len(exits) > 1
    curves = [
        Curve(
            name, [found['median_ms'] / size for found in exits],
            top1['exits'],
            labels=[f'{found["exit"]}' if several else '' for found in exits],
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


def _early_exits(row: Row, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Points of leaving early with a network: its own, or published ones."""
    return row['top1'].get('curve') or _published(row, rows)


def _latencies(
        row: Row, points: list[dict[str,
                                    Any]]) -> tuple[list[float], list[float]]:
    """Mean latencies and accuracies of such points."""
    ms = [found['median_ms'] / row['batch_size'] for found in row['exits']]
    macs = [found.get('macs', 0.) for found in row['exits']]
    return [
        float(
            np.dot(point['shares'], ms) if 'shares' in
            point else np.interp(point['macs'], macs, ms)) for point in points
    ], [point['top1'] for point in points]


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
