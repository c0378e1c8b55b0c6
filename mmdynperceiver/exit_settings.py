# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What an exit policy may be set to.

Plain Python: the core checks its settings with this, and so does the runner
of exported networks, which works without torch.
"""
import math
from typing import Any, Optional, Sequence, Tuple, Union

__all__ = [
    'ALL_CRITERIA', 'CRITERIA', 'NEVER', 'Temperature', 'check_criterion',
    'check_temperature', 'check_thresholds', 'fixed_exit_thresholds'
]

# Made for the logits of classes.
CRITERIA = ('max_prob', 'entropy', 'margin', 'patience')
# A checkpoint names a criterion by its place here: only add at the end.
ALL_CRITERIA = (*CRITERIA, 'learned')
# A confidence is at most 1, so nothing ever reaches this threshold.
NEVER = 2.

Temperature = Union[float, Sequence[float], None]


def check_criterion(criterion: str,
                    known: Sequence[str] = ALL_CRITERIA) -> str:
    """Refuse what is not the name of a criterion.

    Args:
        criterion (str): The name.
        known (Sequence[str]): Those that there are. Defaults to
            ``ALL_CRITERIA``.

    Returns:
        str: The same name.

    Raises:
        ValueError: If there is no such criterion.
    """
    if criterion not in known:
        raise ValueError(f'criterion must be one of {", ".join(known)}, got '
                         f'{criterion!r}')
    return criterion


def check_temperature(temperature: Temperature,
                      num_exits: int = 4) -> Optional[Tuple[float, ...]]:
    """Refuse temperatures that logits cannot be divided by.

    Args:
        temperature (float | Sequence[float], optional): One for each exit,
            or one for all.
        num_exits (int): Number of exits. Defaults to 4.

    Returns:
        tuple[float], optional: One for each exit; None if all are 1.

    Raises:
        TypeError: If it is not numbers.
        ValueError: If there are too few or too many, or one is not positive
            and finite.
    """
    if temperature is None:
        return None
    try:
        temperature = _plain(temperature)
        if isinstance(temperature, (int, float)):
            temperature = (temperature, ) * num_exits
        values = tuple(float(value) for value in temperature)
    except (TypeError, ValueError):
        raise TypeError(f'temperature must be a number, or one for each of '
                        f'{num_exits} exits, got {temperature!r}') from None
    if len(values) != num_exits:
        raise ValueError(f'{num_exits} exits need {num_exits} temperatures, '
                         f'got {len(values)}: {list(values)}')
    for index, value in enumerate(values):
        if not math.isfinite(value) or value <= 0:
            raise ValueError(f'the temperature of exit {index} must be a '
                             f'finite number above 0, got {value}')
    return None if all(value == 1 for value in values) else values


def check_thresholds(thresholds: Sequence[float],
                     num_exits: int = 4) -> Tuple[float, ...]:
    """Refuse thresholds that cannot steer ``num_exits`` exits.

    Args:
        thresholds (Sequence[float]): One for each exit but the last.
        num_exits (int): Number of exits. Defaults to 4.

    Returns:
        tuple[float]: The same numbers.

    Raises:
        TypeError: If it is not a sequence of numbers.
        ValueError: If there are too few or too many, or one is NaN or
            negative.
    """
    try:
        thresholds = _plain(thresholds)
        values = tuple(float(value) for value in thresholds)
    except (TypeError, ValueError):
        raise TypeError(f'thresholds must be a sequence of {num_exits - 1} '
                        f'numbers, got {thresholds!r}') from None
    if len(values) != num_exits - 1:
        raise ValueError(
            f'{num_exits} exits need {num_exits - 1} thresholds (the last '
            f'exit takes the rest), got {len(values)}: {list(values)}')
    for index, value in enumerate(values):
        if math.isnan(value) or value < 0:
            raise ValueError(
                f'the threshold of exit {index} must be a number of at least '
                f'0 (0: every sample leaves; above 1: none does), got {value}')
    return values


def _plain(values: Any) -> Any:
    """The numbers of a tensor or an array; '123' is not three of them."""
    if isinstance(values, (str, bytes)):
        raise TypeError
    return values.tolist() if hasattr(values, 'tolist') else values


def fixed_exit_thresholds(index: int, num_exits: int = 4) -> Tuple[float, ...]:
    """Thresholds at which every sample leaves at one exit.

    Args:
        index (int): The exit, 0-based.
        num_exits (int): Number of exits. Defaults to 4.

    Raises:
        ValueError: If there is no such exit.
    """
    if not isinstance(index, int) or not 0 <= index < num_exits:
        raise ValueError(f'exit index must be one of 0 to {num_exits - 1} '
                         f'(shallow to deep), got {index!r}')
    return tuple(0. if k >= index else NEVER for k in range(num_exits - 1))
