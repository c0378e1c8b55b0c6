# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The settings of a policy as the numbers that a checkpoint carries."""
from typing import Any, Dict, Iterator, List, Sequence, Tuple

from ..exit_settings import ALL_CRITERIA, ENSEMBLES, FEATURES

__all__ = ['pack', 'unpack']

# Stands for each threshold that is not set.
UNSET = -1.
# The first number of what holds more than thresholds, and still more.
EXTENDED, WITH_WEIGHTS = -2., -3.


def pack(settings: Dict[str, Any], num_exits: int) -> Tuple[float, ...]:
    """Numbers of the arguments of :class:`ExitPolicy`.

    The thresholds, all -1 if none are set. If the criterion is not the
    largest probability or there are temperatures: -2, the number of the
    criterion, the thresholds and the temperatures. With an ensemble or
    weights of the criterion: -3, the number of the criterion, that of the
    ensemble (0: none), thresholds, temperatures, and all weights.
    """
    thresholds = settings['thresholds'] or (UNSET, ) * (num_exits - 1)
    temperature = settings['temperature'] or (1., ) * num_exits
    number = float(ALL_CRITERIA.index(settings['criterion']))
    ensemble, stopping = settings['ensemble'], settings['stopping']
    if ensemble is not None or stopping is not None:
        kind, rows = 0, ()
        if ensemble is not None:
            kind = 1 + ENSEMBLES.index(ensemble['kind'])
            rows = ensemble['weights']
        return (WITH_WEIGHTS, number, float(kind), *thresholds, *temperature,
                *sum((*rows, *(stopping or ())), ()))
    if number or settings['temperature'] is not None:
        return (EXTENDED, number, *thresholds, *temperature)
    return thresholds


def unpack(values: Sequence[float], num_exits: int) -> Dict[str, Any]:
    """The arguments of :class:`ExitPolicy` from such numbers.

    Raises:
        ValueError: If a later version wrote them.
    """
    # Averaging weights may have moved the marks by a rounding error.
    mark = round(values[0]) if values else 0
    if mark not in (EXTENDED, WITH_WEIGHTS):
        return dict(thresholds=_set(values))
    number, split = round(values[1]), len(values) // 2 + 1
    kind, rest = 0, iter(values[2:])
    if mark == WITH_WEIGHTS:
        kind, split = round(next(rest)), num_exits + 1
    if not (0 <= number < len(ALL_CRITERIA) and 0 <= kind <= len(ENSEMBLES)):
        raise ValueError(
            f'the checkpoint leaves early by a criterion or an ensemble that '
            f'this version does not know, number {number}; use the version '
            f'that wrote it, or set thresholds')
    found: Dict[str, Any] = dict(
        criterion=ALL_CRITERIA[number],
        thresholds=_set(_take(rest, split - 2)))
    if mark == EXTENDED:
        return dict(found, temperature=list(rest))
    found['temperature'] = _take(rest, num_exits)
    if kind:
        found['ensemble'] = dict(
            kind=ENSEMBLES[kind - 1],
            weights=[_take(rest, k + 1) for k in range(num_exits)])
    if found['criterion'] == 'logistic':
        found['stopping'] = [
            _take(rest,
                  len(FEATURES) + 1) for _ in range(num_exits - 1)
        ]
    return found


def _take(numbers: Iterator[float], count: int) -> List[float]:
    """The next of them."""
    return [number for _, number in zip(range(count), numbers)]


def _set(thresholds: Sequence[float]) -> Any:
    """Thresholds, or None where all are not set."""
    return None if all(t == UNSET for t in thresholds) else thresholds
