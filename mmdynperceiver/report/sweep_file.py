# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Curves from the operating points that ``--sweep`` writes."""
import os
from typing import List, Sequence, Union

from ..core import OperatingPoint
from .curve import Curve

__all__ = ['read_sweep', 'sweep_curve']


def sweep_curve(points: Sequence[OperatingPoint],
                name: str = 'published sweep',
                test: bool = False) -> Curve:
    """Accuracy against MACs of several operating points.

    Args:
        points (Sequence[OperatingPoint]): With ``accuracy`` and ``macs`` in
            ``expected``.
        name (str): Shown in the legend. Defaults to 'published sweep'.
        test (bool): Whether what was measured on the test images counts.
            Defaults to False: that on the held-out images.

    Raises:
        ValueError: If a point does not say what it brings.
    """
    found = [p.expected['test'] if test else p.expected for p in points]
    try:
        rows = sorted(
            (float(e['macs']), 100 * float(e['accuracy'])) for e in found)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f'a curve needs accuracy and MACs of each operating '
                         f'point, got {found[:2]}') from error
    return Curve(name, [row[0] for row in rows], [row[1] for row in rows])


def read_sweep(path: Union[str, os.PathLike]) -> List[Curve]:
    """Read the curves of a file of operating points.

    Args:
        path (str | PathLike): JSON file of ``tools/calibrate.py``.

    Returns:
        list[Curve]: On the held-out images, and on the test images if they
        were measured.

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
