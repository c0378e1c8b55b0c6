# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Thresholds in a JSON file.

The file is an object with at least ``thresholds``, one number for each exit
but the last, and ``criterion``, what they are compared with. Anything else
(what they were solved for, what they brought) is kept for the reader.
"""
import json
import os
from typing import Any, Sequence, Tuple, Union

from .files import write_json
from .policy import check_thresholds

__all__ = ['load_thresholds', 'save_thresholds']

# The largest softmax probability: the one criterion of ``ExitPolicy``.
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
        ValueError: If it is not JSON, is made for another criterion, or its
            thresholds do not fit; the file is named.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f'no thresholds file at {path!r}')
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except ValueError as error:  # JSON or text encoding
        raise ValueError(
            f'thresholds file {path!r} is not JSON: {error}') from error
    if not isinstance(content, dict) or 'thresholds' not in content:
        raise ValueError(f"thresholds file {path!r} must hold an object with "
                         f"the key 'thresholds', got {str(content)[:60]!r}")
    criterion = content.get('criterion', CRITERION)
    if criterion != CRITERION:
        raise ValueError(f'thresholds file {path!r} is made for the criterion '
                         f'{criterion!r}; expected {CRITERION!r}')
    try:
        return check_thresholds(content['thresholds'], num_exits)
    except (TypeError, ValueError) as error:
        raise ValueError(f'thresholds file {path!r}: {error}') from error


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
