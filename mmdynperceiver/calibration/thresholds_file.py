# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Thresholds alone in a JSON file.

A short form of :class:`~mmdynperceiver.core.OperatingPoint` for thresholds
that are compared with the largest softmax probability.
"""
import os
from typing import Any, Sequence, Tuple, Union

from ..core.operating_point import OperatingPoint
from ..core.policy import check_thresholds
from ..io.atomic import write_json

__all__ = ['load_thresholds', 'save_thresholds']

CRITERION = 'max_prob'


def load_thresholds(path: Union[str, os.PathLike],
                    num_exits: int = 4) -> Tuple[float, ...]:
    """Read thresholds from a JSON file.

    Args:
        path (str | PathLike): The file.
        num_exits (int): Number of exits. Defaults to 4.

    Returns:
        tuple[float]: One threshold for each exit but the last.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not JSON, is made for another criterion or with
            temperatures, or its thresholds do not fit; the file is named.
    """
    point = OperatingPoint.load(path, num_exits)
    if point.criterion != CRITERION or point.temperature is not None:
        raise ValueError(
            f'thresholds file {os.fspath(path)!r} is made for the criterion '
            f'{point.criterion!r} with temperatures {point.temperature}; '
            f'expected {CRITERION!r} without any. Read it with '
            f'OperatingPoint.load')
    return point.thresholds


def save_thresholds(path: Union[str, os.PathLike], thresholds: Sequence[float],
                    **details: Any) -> None:
    """Write thresholds to a JSON file, whole or not at all.

    Args:
        path (str | PathLike): The file; its folder must exist.
        thresholds (Sequence[float]): One for each exit but the last.
        **details: What else to keep, as JSON can hold it.

    Raises:
        ValueError: If a threshold is NaN or negative.
    """
    values = check_thresholds(thresholds, len(thresholds) + 1)
    write_json(path,
               dict(thresholds=list(values), criterion=CRITERION, **details))
