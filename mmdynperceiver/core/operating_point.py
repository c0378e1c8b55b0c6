# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""An operating point: thresholds, what they mean, and where they are from."""
import dataclasses
import json
import os
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from ..errors import InputError
from ..exit_settings import (DecisionSettings, check_point_fields,
                             check_thresholds)
from ..io.atomic import write_json
from .exits import Exits
from .segments import SegmentedTrunk

__all__ = ['OperatingPoint', 'check_certificate', 'describe_model']


def describe_model(trunk: SegmentedTrunk, exits: Exits) -> Dict[str, int]:
    """What tells one model's operating points from another's: ``num_exits``,
    ``num_classes`` and ``parameters``, their number."""
    parameters = sum(p.numel() for part in (trunk, exits)
                     for p in part.parameters())
    return dict(
        num_exits=exits.num_exits,
        num_classes=exits.num_classes,
        parameters=parameters)


def check_certificate(certificate: Mapping[str, Any],
                      **found: Optional[str]) -> None:
    """Refuse a certificate of something else than what is found here.

    ``found`` holds fingerprints of ``weights``, ``images`` and ``transform``;
    what one of both sides does not know is not compared.

    Raises:
        InputError: If one differs.
    """
    made_for = certificate.get('made_for') or {}
    for name, value in found.items():
        known = made_for.get(name)
        if None not in (known, value) and known != value:
            raise InputError(
                f'the certificate is of other {name}, {str(known)[:12]} and '
                f'not {str(value)[:12]}, and promises nothing here: certify '
                f'these with tools/calibrate.py --max-risk')


@dataclass
class OperatingPoint(DecisionSettings):
    """Thresholds with their criterion, and where they come from.

    Args:
        thresholds (Sequence[float]): One for each exit but the last.
        criterion, temperature, ensemble, stopping: As of
            :class:`ExitPolicy`.
        num_exits (int, optional): Number of exits. Defaults to None, one
            more than there are thresholds.
        solver (str, optional): What found the thresholds. Defaults to None.
        solved_for (dict): The budget, floor or shares asked for. Defaults to
            nothing, as the next five do.
        expected (dict): ``accuracy``, ``shares`` and ``macs`` on the
            held-out images, and how far these may be off.
        data (dict): Which images these were.
        checkpoint (dict): Which weights these were.
        model (dict): What :func:`describe_model` says of the model.
        certificate (dict): Which risk is promised on samples to come, see
            :mod:`mmdynperceiver.calibration.risk_control`.

    Raises:
        TypeError: If a part is of another kind.
        ValueError: If a setting does not fit.
    """

    thresholds: Tuple[float, ...]
    criterion: str = 'max_prob'
    temperature: Optional[Tuple[float, ...]] = None
    num_exits: int = 0
    solver: Optional[str] = None
    solved_for: Dict[str, Any] = field(default_factory=dict)
    expected: Dict[str, Any] = field(default_factory=dict)
    data: Dict[str, Any] = field(default_factory=dict)
    checkpoint: Dict[str, Any] = field(default_factory=dict)
    model: Dict[str, Any] = field(default_factory=dict)
    certificate: Dict[str, Any] = field(default_factory=dict)
    ensemble: Optional[Dict[str, Any]] = None
    stopping: Optional[Sequence[Sequence[float]]] = None

    def __post_init__(self) -> None:
        if not self.num_exits:
            try:
                self.num_exits = len(self.thresholds) + 1
            except TypeError:
                raise TypeError(f'thresholds must be a sequence of numbers, '
                                f'got {self.thresholds!r}') from None
        self.thresholds = check_thresholds(self.thresholds, self.num_exits)
        self._set(**self.settings)
        self.ensemble = self.settings['ensemble']
        for name in ('solved_for', 'expected', 'data', 'checkpoint', 'model',
                     'certificate'):
            value = getattr(self, name)
            if not isinstance(value, Mapping):
                raise TypeError(f'{name} must be a dict, got {value!r}')
        certified = self.certificate.get('thresholds')
        if certified is not None and tuple(certified) != self.thresholds:
            raise ValueError(
                f'the thresholds {list(self.thresholds)} are not those of '
                f'the certificate, {certified}: what it promises is not '
                f'theirs; calibrate again, or leave it out')

    def save(self, path: Union[str, os.PathLike]) -> None:
        """Write a JSON file, whole or not at all; its folder must exist."""
        write_json(path, dataclasses.asdict(self))

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> 'OperatingPoint':
        """What a file holds of one point, an object with its fields.

        Raises:
            TypeError: If a part is of another kind.
            ValueError: If a field is not known, or a setting does not fit.
        """
        check_point_fields(content)
        return cls(**content)

    @classmethod
    def load(cls,
             path: Union[str, os.PathLike],
             num_exits: Optional[int] = None,
             model: Optional[Mapping[str, Any]] = None) -> 'OperatingPoint':
        """Read a JSON file, an object with at least ``thresholds``.

        Of several points, as ``--sweep`` writes them, the one of a number is
        read, from 0: ``sweep.json:12``.

        Args:
            path (str | PathLike): The file, perhaps with a number.
            num_exits (int, optional): Number of exits that it is for.
                Defaults to None, any.
            model (Mapping, optional): What :func:`describe_model` says of
                the model that it is for. Defaults to None, any.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not JSON, its content does not fit, or it is
                for another model.
        """
        path = os.fspath(path)
        return cls._of_file(
            _choose(*_split_number(path)), path, num_exits, model)

    @classmethod
    def load_all(cls, path: Union[str, os.PathLike]) -> List['OperatingPoint']:
        """Read all points of a JSON file, of one or of several; see ``load``.
        """
        path = os.fspath(path)
        return [cls._of_file(point, path) for point in _read(path)]

    @classmethod
    def _of_file(
            cls,
            content: Dict[str, Any],
            path: str,
            num_exits: Optional[int] = None,
            model: Optional[Mapping[str, Any]] = None) -> 'OperatingPoint':
        """Check what a file says of one point."""
        content = dict(content)
        made_for = content.get('num_exits')
        if num_exits is not None and made_for not in (None, num_exits):
            raise ValueError(
                f'thresholds file {path!r} is made for {made_for} exits, this '
                f'model has {num_exits}; calibrate this model')
        if num_exits is not None:
            content['num_exits'] = num_exits
        try:
            point = cls.from_content(content)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f'thresholds file {path!r}: {error}') from error
        for name, value in (model or {}).items():
            if point.model.get(name, value) != value:
                raise ValueError(
                    f'thresholds file {path!r} is made for another model: '
                    f'its {name} is {point.model[name]}, here it is {value}; '
                    f'calibrate this model')
        return point


def _split_number(path: str) -> Tuple[str, Optional[int]]:
    """A file, and the number of one of its points if it is given."""
    match = re.fullmatch(r'(.+):(\d{1,9})', path, re.DOTALL)
    if match is None or os.path.isfile(path):
        return path, None
    return match.group(1), int(match.group(2))


def _choose(path: str, number: Optional[int]) -> Dict[str, Any]:
    """The content of one point of a file."""
    points = _read(path)
    last = len(points) - 1
    if number is None and last:
        raise ValueError(
            f'thresholds file {path!r} holds {len(points)} operating points: '
            f'choose one by its number, {path}:0 to {path}:{last}')
    if (number or 0) > last:
        raise ValueError(f'thresholds file {path!r} has no operating point '
                         f'{number}: they are {path}:0 to {path}:{last}')
    return points[number or 0]


def _read(path: str) -> List[Dict[str, Any]]:
    """The points of a thresholds file."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f'no thresholds file at {path!r}')
    try:
        with open(path, encoding='utf-8-sig') as file:
            content = json.load(file)
    except (ValueError, RecursionError) as error:  # JSON or text encoding
        raise ValueError(
            f'thresholds file {path!r} is not JSON: {error}') from error
    points = content.get('points') if isinstance(content, dict) else None
    if points and isinstance(points, list):
        try:
            check_point_fields(content, ('points', ))
        except ValueError as error:
            raise ValueError(f'thresholds file {path!r}: {error}') from error
    else:
        points = [content]
    if not all(isinstance(p, dict) and 'thresholds' in p for p in points):
        raise ValueError(f"thresholds file {path!r} must hold an object with "
                         f"the key 'thresholds', got {str(content)[:60]!r}")
    return points
