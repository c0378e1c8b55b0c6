# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Accuracy against measured latency."""
import os
from typing import Any, List, Mapping, Sequence, Union

from .curve import Curve, Point, plot_accuracy_macs

__all__ = ['plot_accuracy_latency']


def plot_accuracy_latency(rows: Sequence[Mapping[str, Any]],
                          path: Union[str, os.PathLike]) -> None:
    """Draw what ``tools/benchmark.py`` found, the exits as points.

    Args:
        rows (Sequence[Mapping[str, Any]]): Of its ``compared``; those
            without ``top1`` are left out.
        path (str | PathLike): PNG file to write.

    Raises:
        ValueError: If no row has an accuracy.
    """
    curves: List[Curve] = []
    leaving_early: List[Point] = []
    rows = [row for row in rows if 'top1' in row]
    for row in rows:
        size = row['batch_size']
        # Of a config's name, what tells the networks apart.
        name, *kind = row['name'].split(' ')
        if ':' not in name:
            name = '_'.join(name.split('_')[:2])
        name = ' '.join([name.rpartition(':')[2], *kind])
        name = f'{name}, {row["mode"]}'
        exits, top1 = row['exits'], row['top1']
        several = len(exits) > 1
        curves.append(
            Curve(
                name, [found['median_ms'] / size for found in exits],
                top1['exits'],
                labels=[
                    str(found['exit']) if several else '' for found in exits
                ],
                style='o:' if several else 's'))
        if 'dynamic' in row and 'dynamic' in top1:
            leaving_early.append((row['dynamic']['mean_ms'] / size,
                                  top1['dynamic'], f'leaving early, {name}'))
    title = f'batch {rows[0]["batch_size"]}' if rows else ''
    plot_accuracy_macs(
        curves, path, title, chosen=leaving_early, cost='latency_ms')
