# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Accuracy against MACs and measured milliseconds, side by side."""
import csv
import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np
from matplotlib.figure import Figure

from mmdynperceiver.report import read_early_exits
from mmdynperceiver.report.figure import exit_colour, save_figure

__all__ = [
    'draw', 'mean_points', 'measured_ms', 'outcomes', 'seeds_of', 'trained'
]

MACS = 'MACs (M)'
MARKERS = 'osD^vP'


def outcomes(folder: Path) -> List[Dict[str, Any]]:
    """What a trained network reaches on the test images.

    Returns:
        list[dict]: Points with ``shares`` of the exits, mean ``macs`` and
        ``top1`` in percent: leaving early by thresholds of the held-out
        images, from all at the first exit to all at the last; of a static
        network one.
    """
    curve, tested = folder / 'report/curve.csv', folder / 'test.json'
    if curve.exists():
        return read_early_exits(curve)
    metrics = json.loads(tested.read_text())['metrics']
    return [
        dict(
            shares=[1.],
            macs=metrics['dynamic/macs'],
            top1=metrics['dynamic/top1'])
    ]


def draw(work: Path,
         lines: Mapping[str, Sequence[str]],
         seeds: Sequence[int],
         path: Path,
         times: Optional[Path] = None,
         macs: bool = False) -> Figure:
    """Draw what was trained and timed; write it beside as a CSV file.

    A point's milliseconds are the measured ones of the exits, weighted by the
    shares of test images that leave there; bars are standard deviations over
    the seeds.

    Args:
        work (Path): Folder of the trained networks, ``<network>-<seed>``.
        lines (Mapping): What a line is called, and the networks whose points
            it joins.
        seeds (Sequence[int]): Seeds; where one is missing, the others count.
        path (Path): PNG file to write.
        times (Path, optional): JSON file of ``tools/benchmark.py``: a panel
            for each of its modes, of the networks that it has.
        macs (bool): Whether there is a panel of MACs.
    """
    ms = measured_ms(times) if times else {}
    panels = [MACS] * macs + list(ms)
    figure = Figure((4.2 * len(panels) + 1.6, 4), layout='constrained')
    places = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    rows = []
    for panel, axes in zip(panels, places):
        for number, (label, networks) in enumerate(lines.items()):
            found = []
            for network in networks:
                price = ms.get(panel, {}).get(network)
                if panel == MACS or price:
                    points = mean_points(seeds_of(work, network, seeds), price)
                    rows += [[network, panel, *point] for point in points]
                    found += points
            if found:
                _line(axes, label, number, sorted(found))
        axes.set(xlabel='mean MACs of an image (M)' if panel ==
                 MACS else f'{panel}: ms{_clock(times)} of an image')
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
    places[0].set_ylabel('top-1 accuracy, test (%)')
    handles, labels = places[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside right', fontsize='small')
    with open(path.with_suffix('.csv'), 'w', newline='') as file:
        csv.writer(file).writerows(
            [['name', 'of', 'cost', 'top1', 'deviation'], *rows])
    return save_figure(figure, path)


def measured_ms(times: Path) -> Dict[str, Dict[str, List[float]]]:
    """Milliseconds to each exit, by mode and network, from the JSON file of
    ``tools/benchmark.py``."""
    found: Dict[str, Dict[str, List[float]]] = {}
    for row in json.loads(times.read_text())['compared']:
        to_exits = [one['median_ms'] for one in row['exits']]
        found.setdefault(row['mode'], {})[row['name']] = to_exits
    return found


def _clock(times: Optional[Path]) -> str:
    """Of which time the milliseconds are, where it is not the wall's."""
    clock = json.loads(times.read_text()).get('clock') if times else None
    return ' of CPU time' if clock == 'cpu' else ''


def trained(work: Path, network: str, seeds: Sequence[int]) -> List[Path]:
    """The folders of a network's seeds that were trained and tested."""
    folders = [work / f'{network}-{seed}' for seed in seeds]
    return [
        folder for folder in folders
        if (folder / 'report/curve.csv').exists() or (folder /
                                                      'test.json').exists()
    ]


def seeds_of(work: Path, network: str,
             seeds: Sequence[int]) -> List[List[Dict[str, Any]]]:
    """What each trained seed of a network reaches."""
    return [outcomes(folder) for folder in trained(work, network, seeds)]


def mean_points(found: Sequence[List[Dict[str, Any]]],
                ms: Optional[Sequence[float]] = None) -> List[List[float]]:
    """The mean over the seeds, at as many points of each: its cost, its
    accuracy, and the deviation of that.

    The cost is in milliseconds if ``ms`` of the exits are given, and else in
    millions of MACs.
    """
    count = min(map(len, found))
    picked = [[
        points[k] for k in np.linspace(0, len(points) - 1, count, dtype=int)
    ] for points in found]
    x = np.array(
        [[np.dot(p['shares'], ms) if ms else p['macs'] / 1e6 for p in points]
         for points in picked])
    y = np.array([[p['top1'] for p in points] for points in picked])
    spread = y.std(0, ddof=1) if len(found) > 1 else np.zeros(count)
    return np.stack([x.mean(0), y.mean(0), spread], 1).tolist()


def _line(axes: Any, label: str, number: int,
          points: Sequence[Sequence[float]]) -> None:
    """Join points of a cost, an accuracy and its deviation."""
    x, y, spread = zip(*points)
    few = len(points) < 4
    axes.errorbar(
        x,
        y,
        spread,
        fmt=f'{MARKERS[number % len(MARKERS)]}-',
        markersize=6 if few else 3,
        linewidth=1,
        color=exit_colour(number),
        label=label)
