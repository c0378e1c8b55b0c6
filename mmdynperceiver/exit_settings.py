# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What an exit policy may be set to.

Plain Python: the core checks its settings with this, and so does the runner
of exported networks, which works without torch.
"""
import argparse
import math
from typing import (Any, Dict, Mapping, NamedTuple, Optional, Sequence, Tuple,
                    Union)

__all__ = [
    'ALL_CRITERIA', 'CRITERIA', 'ENSEMBLES', 'FEATURES', 'NEVER',
    'POINT_FIELDS', 'add_policy_options', 'DecisionSettings', 'Ensemble',
    'Stopping', 'Temperature', 'check_criterion', 'check_ensemble',
    'check_point_fields', 'check_stopping', 'check_temperature',
    'check_thresholds', 'fixed_exit_thresholds'
]

# Made for the logits of classes.
CRITERIA = ('max_prob', 'entropy', 'margin', 'patience')
# A checkpoint names a criterion by its place here: only add at the end.
ALL_CRITERIA = (*CRITERIA, 'learned', 'logistic')
# A confidence is at most 1, so nothing ever reaches this threshold.
NEVER = 2.

Temperature = Union[float, Sequence[float], None]

# What the criterion 'logistic' looks at: how sure the exit is by three
# criteria, the share of earlier exits that predict the same class, and the
# largest probability that any exit so far has seen.
FEATURES = ('max_prob', 'margin', 'entropy', 'agreement', 'best')
# A confidence c is looked at as -log(1 + this - c).
SURENESS = 1e-4
# Bias and weights of the features, of each exit but the last.
Stopping = Optional[Tuple[Tuple[float, ...], ...]]

# How the answers of the exits so far become one. A checkpoint names it by its
# place here, from 1.
ENSEMBLES = ('average', 'geometric', 'product')
# Of what a logit counts in a product of experts, at the least.
LEAST_EXPERT = 1e-3

# What the file of an operating point holds, see core.OperatingPoint.
POINT_FIELDS = ('thresholds', 'criterion', 'temperature', 'num_exits',
                'solver', 'solved_for', 'expected', 'data', 'checkpoint',
                'model', 'certificate', 'ensemble', 'stopping')


class Ensemble(NamedTuple):
    """Each exit answers with all before it: by a weighted sum of logits.

    - 'average': a running average (as in arXiv 2302.06359).
    - 'geometric': a weighted geometric mean of probabilities, which is a
      weighted sum of logits (Zero Time Waste, arXiv 2106.05409).
    - 'product': a product of experts max(logit, 0), a little above 0 at the
      least, so that confidence hardly falls (arXiv 2306.02652).

    Args:
        kind (str): One of ``ENSEMBLES``.
        weights (tuple[tuple[float]]): For exit k, those of exits 0 to k.
    """

    kind: str
    weights: Tuple[Tuple[float, ...], ...]


def check_ensemble(ensemble: Any, num_exits: int = 4) -> Optional[Ensemble]:
    """Refuse weights that are not one for each exit so far.

    Args:
        ensemble (Ensemble | Mapping, optional): ``kind`` and ``weights``.
        num_exits (int): Number of exits. Defaults to 4.

    Raises:
        TypeError: If it is something else.
        ValueError: If it has other keys, or a value does not fit.
    """
    if ensemble is None or isinstance(ensemble, Ensemble):
        content = ensemble and ensemble._asdict()
    else:
        content = ensemble
    if content is None:
        return None
    if not isinstance(content, Mapping) or \
            set(content) != set(Ensemble._fields):
        raise ValueError(f'ensemble must be an object of kind and weights, '
                         f'got {content!r}')
    kind = content['kind']
    if kind not in ENSEMBLES:
        raise ValueError(f'the kind of ensemble must be one of '
                         f'{", ".join(ENSEMBLES)}, got {kind!r}')
    sizes = range(1, num_exits + 1)
    return Ensemble(
        kind, _check_rows(content['weights'], sizes, 'weights of ensemble'))


def check_point_fields(content: Mapping[str, Any],
                       known: Sequence[str] = POINT_FIELDS) -> None:
    """Refuse fields that this version does not know: what they say of the
    thresholds would be lost.

    Args:
        content (Mapping): What the file of an operating point holds.
        known (Sequence[str]): Those that there are. Defaults to
            ``POINT_FIELDS``.

    Raises:
        ValueError: If there is another one.
    """
    unknown = [name for name in content if name not in known]
    if unknown:
        raise ValueError(
            f'unknown field {", ".join(map(repr, unknown[:4]))}; known are '
            f'{", ".join(known)}: correct the name or take the field out, or '
            f'use the version that wrote it')


class DecisionSettings:
    """What says how thresholds are meant, for all that hold it: criterion,
    temperature, ensemble and stopping, of so many exits."""

    num_exits: int
    criterion: str
    temperature: Any
    ensemble: Any
    stopping: Any

    def _set(self,
             criterion: str = 'max_prob',
             temperature: Temperature = None,
             ensemble: Any = None,
             stopping: Any = None,
             known: Sequence[str] = ALL_CRITERIA) -> None:
        """Set all, or nothing if something is wrong."""
        count = self.num_exits
        checked = (check_criterion(criterion, known),
                   check_temperature(temperature,
                                     count), check_ensemble(ensemble, count),
                   check_stopping(stopping, criterion, count))
        self.criterion, self.temperature, self.ensemble, self.stopping = \
            checked

    @property
    def settings(self) -> Dict[str, Any]:
        """What was set, as JSON holds it."""
        ensemble = self.ensemble
        if isinstance(ensemble, Ensemble):
            ensemble = ensemble._asdict()
        return dict(
            criterion=self.criterion,
            temperature=self.temperature,
            ensemble=ensemble,
            stopping=self.stopping)


def _check_rows(rows: Any, sizes: Sequence[int],
                what: str) -> Tuple[Tuple[float, ...], ...]:
    """Refuse what is not finite numbers, so many in each row."""
    try:
        values = tuple(
            tuple(float(value) for value in _plain(row))
            for row in _plain(rows))
    except (TypeError, ValueError):
        raise TypeError(
            f'{what} must be rows of numbers, got {rows!r}') from None
    found = [len(row) for row in values]
    if found != list(sizes):
        raise ValueError(f'{what} must be rows of {list(sizes)} numbers, got '
                         f'rows of {found}')
    if not all(map(math.isfinite, sum(values, ()))):
        raise ValueError(f'{what} must be finite numbers, got {rows!r}')
    return values


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


def check_stopping(stopping: Any,
                   criterion: str,
                   num_exits: int = 4) -> Stopping:
    """Refuse other numbers than the criterion 'logistic' needs.

    Args:
        stopping (Sequence[Sequence[float]], optional): For each exit but the
            last a bias and a weight of each of the ``FEATURES``.
        criterion (str): The criterion, which no other needs them for.
        num_exits (int): Number of exits. Defaults to 4.

    Raises:
        TypeError: If it is not rows of numbers.
        ValueError: If there are too few or too many, one is not finite, or
            they are there without their criterion or missing for it.
    """
    if (stopping is None) != (criterion != 'logistic'):
        raise ValueError(f"stopping is for the criterion 'logistic', which "
                         f'needs it, got {stopping!r} for {criterion!r}')
    if stopping is None:
        return None
    return _check_rows(stopping, [len(FEATURES) + 1] * (num_exits - 1),
                       'stopping')


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


def add_policy_options(
    parser: argparse.ArgumentParser,
    default: str = 'those of the config, else those of the checkpoint, else '
    'none'
) -> None:
    """Add the options of where samples leave."""
    policy = parser.add_mutually_exclusive_group()
    policy.add_argument(
        '--thresholds',
        nargs='+',
        type=float,
        help='smallest confidence (softmax probability) to leave with, one '
        f'number for each exit but the last; by default {default}')
    policy.add_argument(
        '--thresholds-file',
        help='JSON file of an operating point, as tools/calibrate.py writes '
        'it: the thresholds, and the criterion and temperatures that they '
        'are made for; of a sweep, FILE:12 is its point 12')
    policy.add_argument(
        '--exit', type=int, help='the one exit at which all leave, from 0')
