# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The operating points of a service: one, or a curve that it moves along."""
import json
import os
from typing import Any, List, NamedTuple, Optional, Tuple, Union

from ..deploy.policy import Policy
from ..exit_settings import check_point_fields

__all__ = ['CurvePoint', 'load_curve', 'load_point']

# What thresholds mean, as of the policy.
MEANING = ('criterion', 'temperature', 'ensemble', 'stopping')


class CurvePoint(NamedTuple):
    """An operating point, and what it brought on the held-out images.

    Args:
        policy (Policy): Its thresholds.
        accuracy (float): Share of right answers.
        shares (tuple[float]): Shares of the exits.
        macs (float): Mean MACs of an image.
    """

    policy: Policy
    accuracy: float
    shares: Tuple[float, ...]
    macs: float


def load_curve(path: Union[str, os.PathLike],
               num_exits: int,
               min_accuracy: Optional[float] = None) -> List[CurvePoint]:
    """Read what ``tools/calibrate.py --curve`` wrote.

    Args:
        path (str | PathLike): The file.
        num_exits (int): Number of exits of the network.
        min_accuracy (float, optional): Leave out points below this.

    Returns:
        list[CurvePoint]: From the cheapest to the best; points that cost
        more than another one and are no better are left out.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no curve for so many exits, or no point is left.
    """
    points = _read_file(path, num_exits)
    found: List[CurvePoint] = []
    for point in sorted(points, key=lambda p: (p.macs, -p.accuracy)):
        if not found or point.accuracy > found[-1].accuracy:
            found.append(point)
    best = found[-1].accuracy if found else 0.
    found = [p for p in found if p.accuracy >= (min_accuracy or 0)]
    if not found:
        raise ValueError(
            f'no point of the curve {os.fspath(path)!r} has an accuracy of '
            f'{min_accuracy}: the best has {best:.4f}')
    return found


def load_point(path: Union[str, os.PathLike], num_exits: int) -> Policy:
    """Read an operating point, as ``tools/calibrate.py`` writes it.

    Args:
        path (str | PathLike): The file; of a sweep, 'FILE:12'.
        num_exits (int): Number of exits of the network.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not for so many exits, or holds several points
            or none of this number.
    """
    name, _, number = os.fspath(path).rpartition(':')
    if not name or not number.isdigit():
        name, number = os.fspath(path), ''
    points = _read_file(name, num_exits)
    if len(points) > 1 and not number:
        raise ValueError(f'{name!r} holds {len(points)} operating points: '
                         f'take one by {name}:0, or all as the curve')
    if int(number or 0) >= len(points):
        raise ValueError(f'there is no operating point {number} in {name!r}, '
                         f'which holds {len(points)}, from 0')
    return points[int(number or 0)].policy


def _read_file(path: Union[str, os.PathLike],
               num_exits: int) -> List[CurvePoint]:
    """All points of a file, in its order."""
    name = os.fspath(path)
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except (ValueError, RecursionError) as error:
        raise ValueError(f'the curve {name!r} is not JSON: {error}') from error
    try:
        if 'points' in content:
            check_point_fields(content, ('points', ))
        points = [
            _read(point, num_exits)
            for point in content.get('points') or [content]
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f'{name!r} is no curve of a network with {num_exits} exits '
            f'({error}): make one with tools/calibrate.py --curve') from error
    return points


def _read(point: Any, num_exits: int) -> CurvePoint:
    """One point of a file."""
    check_point_fields(point)
    expected = point['expected']
    shares = tuple(map(float, expected['shares']))
    if len(shares) != num_exits:
        raise ValueError(f'it has shares of {len(shares)} exits')
    meaning = {
        name: point[name]
        for name in MEANING if point.get(name) is not None
    }
    policy = Policy(num_exits, point['thresholds'], **meaning)
    return CurvePoint(policy, float(expected['accuracy']), shares,
                      float(expected['macs']))
