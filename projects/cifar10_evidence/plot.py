# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Accuracy against measured milliseconds, a panel for each runtime."""
import json
from pathlib import Path
from typing import Any, Dict, List, Sequence

import numpy as np
from matplotlib.figure import Figure

from mmdynperceiver.report import read_early_exits
from mmdynperceiver.report.figure import exit_colour, save_figure

__all__ = ['draw', 'outcomes']


def outcomes(folder: Path) -> List[Dict[str, Any]]:
    """What a trained network reaches on the test images.

    Returns:
        list[dict]: Points with ``shares`` of the exits and ``top1`` in
        percent: leaving early by thresholds of the held-out images, from all
        at the first exit to all at the last; of a static network one.
    """
    curve, tested = folder / 'report/curve.csv', folder / 'test.json'
    if curve.exists():
        return read_early_exits(curve)
    top1 = json.loads(tested.read_text())['metrics']['dynamic/top1']
    return [dict(shares=[1.], top1=top1)]


def draw(work: Path, networks: Sequence[str], seeds: Sequence[int],
         times: Path, path: Path) -> Figure:
    """Draw what was trained and timed.

    A point's milliseconds are the measured ones of the exits, weighted by the
    shares of test images that leave there; bars are standard deviations over
    the seeds.

    Args:
        work (Path): Folder of the trained networks, ``<network>-<seed>``.
        networks (Sequence[str]): Their names.
        seeds (Sequence[int]): Seeds; where one is missing, the others count.
        times (Path): JSON file of ``tools/benchmark.py``.
        path (Path): PNG file to write.
    """
    measured = json.loads(times.read_text())
    rows = measured['compared']
    clock = ' of CPU time' if measured.get('clock') == 'cpu' else ''
    modes = list(dict.fromkeys(row['mode'] for row in rows))
    figure = Figure((4 * len(modes), 3.6), layout='constrained')
    panels = figure.subplots(1, len(modes), sharey=True, squeeze=False)[0]
    for mode, axes in zip(modes, panels):
        for number, network in enumerate(networks):
            found = [
                outcomes(folder)
                for folder in (work / f'{network}-{seed}' for seed in seeds)
                if folder.is_dir()
            ]
            ms = next([one['median_ms'] for one in row['exits']]
                      for row in rows
                      if (row['name'], row['mode']) == (network, mode))
            _line(axes, network, found, ms, exit_colour(number))
        axes.set(title=mode, xlabel=f'ms{clock} of an image, measured')
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel('top-1 accuracy, test (%)')
    panels[-1].legend(fontsize='small')
    return save_figure(figure, path)


def _line(axes: Any, name: str, found: Sequence[List[Dict[str, Any]]],
          ms: Sequence[float], colour: str) -> None:
    """One network: its seeds' mean, at as many points of each."""
    count = min(map(len, found))
    picked = [[
        points[k] for k in np.linspace(0, len(points) - 1, count, dtype=int)
    ] for points in found]
    x = np.array([[np.dot(p['shares'], ms) for p in points]
                  for points in picked])
    y = np.array([[p['top1'] for p in points] for points in picked])
    axes.errorbar(
        x.mean(0),
        y.mean(0),
        y.std(0, ddof=1) if len(found) > 1 else None,
        fmt='o-' if count > 1 else 's',
        markersize=3 if count > 1 else 7,
        color=colour,
        label=name)
