# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What each exit reaches and takes, and leaving early, in tables."""
import csv
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from .plot import mean_points, measured_ms, outcomes, seeds_of, trained

__all__ = ['exit_table', 'leaving_table']

# How many points of accuracy may be lost.
MARGINS = (0., 1.)


def exit_table(work: Path, networks: Sequence[str], seeds: Sequence[int],
               times: Path) -> str:
    """A row for each exit: its accuracy on the test images, mean and standard
    deviation over the seeds, and its milliseconds."""
    ms = measured_ms(times)
    rows = []
    for network in networks:
        reached = np.array([
            _top1_of_exits(folder) for folder in trained(work, network, seeds)
        ])
        for index, column in enumerate(reached.T):
            spread = f' ± {column.std(ddof=1):.1f}' if len(column) > 1 else ''
            rows.append([
                network if index == 0 else '',
                str(index) if len(reached.T) > 1 else '',
                f'{column.mean():.1f}{spread}',
                *(f'{ms[mode][network][index]:.2f}' for mode in ms)
            ])
    return _markdown(['network', 'exit', 'top-1 (%)', *ms], rows)


def leaving_table(work: Path, networks: Sequence[str], seeds: Sequence[int],
                  times: Path, base: str) -> str:
    """A row for each network of several exits: in times of ``base``, the
    least that leaving early takes at an accuracy of no less than its, and of
    a point less."""
    ms = measured_ms(times)
    (_, aim, _), = mean_points(seeds_of(work, base, seeds))
    heads = [
        f'{mode}, {aim - margin:.1f} %' for mode in ms for margin in MARGINS
    ]
    rows = []
    for network in networks:
        found = seeds_of(work, network, seeds)
        if len(found[0]) > 1:
            rows.append([
                network, *(_ratio(found, ms[mode][network], ms[mode][base][-1],
                                  aim - margin) for mode in ms
                           for margin in MARGINS)
            ])
    return _markdown(['network', *heads], rows)


def _ratio(found: Sequence[List[Dict[str, Any]]], to_exits: Sequence[float],
           base: float, aim: float) -> str:
    """The least mean time at an accuracy, in times of the base."""
    fitting = [
        cost for cost, top1, _ in mean_points(found, to_exits) if top1 >= aim
    ]
    return f'{min(fitting) / base:.2f}' if fitting else '–'


def _top1_of_exits(folder: Path) -> List[float]:
    """Accuracies of a trained network's exits on the test images, percent."""
    curve = folder / 'report/curve.csv'
    if not curve.exists():
        return [point['top1'] for point in outcomes(folder)]
    with open(curve, newline='') as file:
        found = {
            int(row['series'][len('exit '):]): 100 * float(row['accuracy'])
            for row in csv.DictReader(file)
            if row['data'] == 'test' and row['series'].startswith('exit ')
        }
    return [found[index] for index in sorted(found)]


def _markdown(heads: Sequence[str],
              rows: Sequence[Sequence[Optional[str]]]) -> str:
    """A table in Markdown."""
    lines = [heads, ['---'] * len(heads), *rows]
    return '\n'.join('| ' + ' | '.join(map(str, line)) + ' |'
                     for line in lines) + '\n'
