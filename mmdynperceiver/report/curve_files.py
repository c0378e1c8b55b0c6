# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Curves of files: published points, reports, sweeps, and one's own."""
import csv
import math
import os
from importlib import resources
from pathlib import Path
from typing import Any, Iterable, Mapping, Sequence

from ..core import OperatingPoint
from .curve import Curve

__all__ = [
    'published_curves', 'published_figures', 'read_curves', 'read_early_exits',
    'read_sweep', 'sweep_curve'
]

# Name of the curve of a report's static exits, shallow to deep.
STATIC = 'static exits'

# Name of a curve, MACs, and percent.
Point = tuple[str, float, float]


def _published() -> dict[str, list[Point]]:
    """The points that come with the package, by their figures."""
    file = resources.files(__package__) / 'data' / 'published_points.csv'
    figures: dict[str, list[Point]] = {}
    for row in csv.DictReader(file.read_text('utf-8').splitlines()):
        figures.setdefault(row['figure'], []).append(_point(row))
    return figures


def published_figures() -> tuple[str, ...]:
    """Names of the figures of which points are shipped."""
    return tuple(_published())


def published_curves(figure: str | None = None,
                     network: str | None = None) -> list[Curve]:
    """Points that the paper's figures show.

    Source: read off the figures of arXiv 2306.11248 (8a, 8b, 8c and 9:
    ImageNet; 10: Something-Something V1), so to the precision of a drawing.

    Args:
        figure (str, optional): One of ``published_figures()``, such as
            'fig8b'. Defaults to None, all.
        network (str, optional): Name of a network or a part of it, in any
            case. Defaults to None, all.

    Returns:
        list[Curve]: One for each network, with MACs (not G) and percent.

    Raises:
        ValueError: If there is no such figure or network.
    """
    figures = _published()
    if figure is not None:
        if figure not in figures:
            raise ValueError(f'points are shipped of the figures '
                             f'{", ".join(figures)}, got {figure!r}')
        figures = {figure: figures[figure]}
    curves = [c for points in figures.values() for c in _curves(points)]
    if network is None:
        return curves
    found = [c for c in curves if network.lower() in c.name.lower()]
    if not found:
        known = dict.fromkeys(curve.name for curve in curves)
        raise ValueError(f'network must be (a part of) one of '
                         f'{", ".join(known)}, got {network!r}')
    return found


def _curves(points: Iterable[Point]) -> list[Curve]:
    """Curves of all points, each cheap to expensive."""
    groups: dict[str, list[tuple[float, float]]] = {}
    for name, macs, accuracy in points:
        groups.setdefault(name, []).append((macs, accuracy))
    return [_curve(*item) for item in groups.items()]


def _curve(name: str, points: Iterable[tuple[float, float]]) -> Curve:
    """A curve, cheap to expensive."""
    points = sorted(points)
    return Curve(name, [macs for macs, _ in points],
                 [accuracy for _, accuracy in points])


def read_curves(path: str | os.PathLike) -> list[Curve]:
    """Read named curves from a CSV file.

    Three kinds of columns are known: those of a report's ``curve.csv``
    (``series``, ``data``, ``macs``, and ``accuracy`` or ``utility`` in
    [0, 1]), those of the published points (``model``, ``gmacs``, ``top1`` in
    percent), and ``name``, ``macs``, ``top1`` for your own.

    Args:
        path (str | PathLike): The file.

    Returns:
        list[Curve]: In the order of the file; the static exits of a report
        are one curve, and its others go from the first to the last of them.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the columns are others, a number is none, or there is
            no point.
    """
    columns, rows = _read_csv(path)
    points = []
    for number, row in enumerate(rows, 2):
        try:
            points.append(_point(row))
            if not math.isfinite(sum(points[-1][1:])):
                raise ValueError('not finite')
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f'{os.fspath(path)!r}, line {number}: curves need the columns '
                f'name, macs, top1 (or those of curve.csv or of the published '
                f'points) with numbers, got {columns} and '
                f'{list(row.values())}') from error
    if not points:
        raise ValueError(f'{os.fspath(path)!r} holds no points')
    curves = {curve.name: curve for curve in _curves(points)}
    for name, curve in curves.items():
        exits = curves.get(f'{STATIC}, {name.split(", ")[-1]}')
        if name.startswith(STATIC):
            curve.labels = [f'exit {k}' for k in range(len(curve.macs))]
        elif exits is not None and 'series' in columns:
            curve.macs = [exits.macs[0], *curve.macs, exits.macs[-1]]
            curve.accuracy = [
                exits.accuracy[0], *curve.accuracy, exits.accuracy[-1]
            ]
    return list(curves.values())


def _read_csv(path: str | os.PathLike) -> tuple[list[str], list[dict]]:
    """Names of the columns, and the lines."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'no file of curves at {str(path)!r}')
    try:
        with path.open(encoding='utf-8-sig', newline='') as file:
            reader = csv.DictReader(file)
            return list(reader.fieldnames or ()), list(reader)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(
            f'{str(path)!r} is no table of curves: {error}') from error


def _point(row: Mapping[str, str]) -> Point:
    """Name of the curve, MACs and percent of one line."""
    if 'gmacs' in row:
        return row['model'], 1e9 * float(row['gmacs']), float(row['top1'])
    if 'series' not in row:
        return row['name'], float(row['macs']), float(row['top1'])
    name = row['series']
    if name.startswith('exit '):
        name = STATIC
    return (f'{name}, {row["data"]}', float(row['macs']),
            100 * float(row.get('accuracy', row.get('utility', ''))))


def read_early_exits(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Read points of leaving early with one network.

    Args:
        path (str | PathLike): A report's ``curve.csv``: its searched
            thresholds, on the test data if it has any. Or another file of
            :func:`read_curves`, which tells the errors: its first curve.

    Returns:
        list[dict]: ``top1`` in percent, ``macs``, and ``shares`` of the
        exits if the file tells them.
    """
    first = read_curves(path)[0]
    columns, rows = _read_csv(path)
    if not {'share_0', 'series'} <= set(columns):
        return [
            dict(macs=macs, top1=top1)
            for macs, top1 in zip(first.macs, first.accuracy)
        ]
    data = 'test' if any(row['data'] == 'test' for row in rows) else 'held-out'
    shares = [name for name in columns if name.startswith('share_')]
    wanted = ('search', 'exit 0', f'exit {len(shares) - 1}')
    found = [
        row for row in rows if row['data'] == data and row['series'] in wanted
    ]
    return [
        dict(
            shares=[float(row[name]) for name in shares],
            macs=float(row['macs']),
            top1=100 * float(row['accuracy']))
        for row in sorted(found, key=lambda row: float(row['macs']))
    ]


def sweep_curve(points: Sequence[OperatingPoint],
                name: str = 'published sweep',
                test: bool = False) -> Curve:
    """Accuracy against MACs of several operating points.

    Args:
        points (Sequence[OperatingPoint]): With ``accuracy`` and ``macs`` in
            ``expected``.
        name (str): Shown in the legend.
        test (bool): Whether what was measured on the test images counts, and
            not that on the held-out images.

    Raises:
        ValueError: If a point does not say what it brings.
    """
    found = [p.expected['test'] if test else p.expected for p in points]
    try:
        return _curve(name, [(float(e['macs']), 100 * float(e['accuracy']))
                             for e in found])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f'a curve needs accuracy and MACs of each operating '
                         f'point, got {found[:2]}') from error


def read_sweep(path: str | os.PathLike) -> list[Curve]:
    """Read the curves of a JSON file of ``tools/calibrate.py``.

    They are on the held-out images, and on the test ones if measured.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it does not hold operating points with accuracy and
            MACs.
    """
    points = OperatingPoint.load_all(path)
    curves = [sweep_curve(points, 'sweep, held-out')]
    if all('test' in point.expected for point in points):
        curves.append(sweep_curve(points, 'sweep, test', test=True))
    return curves
