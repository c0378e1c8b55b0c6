# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The exit policy: who leaves where; it never sees a feature."""
from typing import Any, Mapping, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from ..exit_settings import (ALL_CRITERIA, NEVER, Temperature, check_criterion,
                             check_temperature, check_thresholds,
                             fixed_exit_thresholds)
from .criteria import confidence, confidences, patience_step
from .operating_point import OperatingPoint

__all__ = [
    'ExitPolicy', 'Prediction', 'check_thresholds', 'fixed_exit_thresholds',
    'select_exits'
]

# Stands in a checkpoint for each threshold that is not set.
UNSET = -1.
# The first number of a state that holds more than thresholds.
EXTENDED = -2.


class Prediction(NamedTuple):
    """Outcome of an early-exiting pass: logits (B, K) of the exit at which
    each sample left, that exit (B,), 0-based, and the confidence (B,) there.
    """

    logits: Tensor
    exit_index: Tensor
    confidence: Tensor


def leave_at(all_confidences: Tensor, thresholds: Sequence[float]) -> Tensor:
    """The first exit (N,), 0-based, at which each of the confidences
    (num_exits, N) reaches its threshold; the last one takes the rest."""
    last = len(all_confidences) - 1
    exit_index = torch.full_like(all_confidences[0], last, dtype=torch.long)
    for k in reversed(range(last)):
        exit_index.masked_fill_(all_confidences[k] >= thresholds[k], k)
    return exit_index


def select_exits(all_logits: Sequence[Tensor],
                 thresholds: Sequence[float],
                 criterion: str = 'max_prob',
                 temperature: Temperature = None) -> Prediction:
    """Replay thresholds on the logits of all exits.

    This is the simulation that really stopping must agree with.

    Args:
        all_logits (Sequence[Tensor]): Logits (B, K) of each exit, also as
            arrays.
        thresholds (Sequence[float]): One for each exit but the last.
        criterion, temperature: As of :class:`ExitPolicy`.

    Raises:
        ValueError: If an argument does not fit.
    """
    thresholds = check_thresholds(thresholds, len(all_logits))
    all_logits = [torch.as_tensor(logits) for logits in all_logits]
    logits = torch.stack(tuple(all_logits))
    conf = confidences(all_logits, criterion, temperature)
    exit_index = leave_at(conf, thresholds)
    rows = torch.arange(logits.shape[1], device=logits.device)
    return Prediction(logits[exit_index, rows], exit_index, conf[exit_index,
                                                                 rows])


class ExitPolicy(nn.Module):
    """Decide at each exit which samples leave.

    The policy has no parameters, but its thresholds, its criterion and its
    temperatures travel in the state dict (as extra state), so a checkpoint
    carries its operating point. They travel as a tensor, because weight
    averages touch every entry as one.

    Args:
        num_exits (int): Number of exits. Defaults to 4.
        thresholds (Sequence[float], optional): One for each exit but the
            last. None: those of the checkpoint that was loaded last, if it
            has any, with their criterion and temperatures; otherwise all
            samples run to the last exit. Defaults to None.
        criterion (str): What the thresholds are compared with, one of
            ``ALL_CRITERIA``. Defaults to ``max_prob``.
        temperature (float | Sequence[float], optional): What the logits are
            divided by, for each exit or for all. Defaults to None, 1.

    Raises:
        ValueError: If an argument does not fit.
    """

    def __init__(self,
                 num_exits: int = 4,
                 thresholds: Optional[Sequence[float]] = None,
                 criterion: str = 'max_prob',
                 temperature: Temperature = None) -> None:
        super().__init__()
        self.num_exits = num_exits
        self.thresholds: Optional[Tuple[float, ...]] = None
        self.criterion = check_criterion(criterion)
        self.temperature = check_temperature(temperature, num_exits)
        # What holds where neither the user nor a checkpoint says more.
        self._defaults = (self.criterion, self.temperature)
        # Thresholds that a user sets outrank those of a checkpoint.
        self._pinned = thresholds is not None
        if thresholds is not None:
            self.thresholds = check_thresholds(thresholds, num_exits)

    @classmethod
    def from_operating_point(cls, point: OperatingPoint) -> 'ExitPolicy':
        """The policy of thresholds, criterion and temperatures."""
        return cls(point.num_exits, point.thresholds, point.criterion,
                   point.temperature)

    def set_thresholds(self, thresholds: Optional[Sequence[float]]) -> None:
        """Set the thresholds, or None to run all samples to the last exit.

        Criterion and temperatures stay; later checkpoints do not change them.

        Raises:
            ValueError: If they do not fit; the old ones then stay.
        """
        if thresholds is not None:
            thresholds = check_thresholds(thresholds, self.num_exits)
        self.thresholds = thresholds
        self._pinned = True

    def drop_loaded(self) -> bool:
        """Drop thresholds that a checkpoint brought, and say whether there
        were any: they belong to the weights that they were calibrated for.
        What the user has set stays."""
        if self._pinned or self.thresholds is None:
            return False
        self.thresholds = None
        self.criterion, self.temperature = self._defaults
        return True

    def decide(
        self,
        index: int,
        logits: Tensor,
        memory: Optional[Tensor] = None
    ) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
        """Decide who leaves at one exit, of logits (B, K) and what was
        returned at the exit before for the samples that stayed.

        Returns:
            tuple[Tensor]: Confidence (B,), who leaves (B,), boolean, and what
            to hand to the next exit: (B, 2), or None.
        """
        if self.criterion == 'patience':
            memory = patience_step(logits, memory)
            conf = memory[:, 1] / self.num_exits
        else:
            temperature = self.temperature[index] if self.temperature else 1.
            conf = confidence(logits, self.criterion, temperature)
        if index == self.num_exits - 1:
            leaves = torch.ones_like(conf, dtype=torch.bool)
        elif self.thresholds is None:
            leaves = torch.zeros_like(conf, dtype=torch.bool)
        else:
            leaves = conf >= self.thresholds[index]
        return conf, leaves, memory

    def replay(self, all_logits: Sequence[Tensor]) -> Prediction:
        """Decide on the logits (B, K) of all exits, as if really stopping."""
        thresholds = self.thresholds
        if thresholds is None:
            thresholds = (NEVER, ) * (self.num_exits - 1)
        return select_exits(all_logits, thresholds, self.criterion,
                            self.temperature)

    def get_extra_state(self) -> Tensor:
        """All settings, in double precision: the thresholds, all -1 if none
        are set; if the criterion is not the largest probability or there are
        temperatures: -2, the number of the criterion, the thresholds and the
        temperatures."""
        thresholds = self.thresholds
        if thresholds is None:
            thresholds = (UNSET, ) * (self.num_exits - 1)
        values = thresholds
        if self.criterion != 'max_prob' or self.temperature is not None:
            temperature = self.temperature or (1., ) * self.num_exits
            number = float(ALL_CRITERIA.index(self.criterion))
            values = (EXTENDED, number, *thresholds, *temperature)
        return torch.tensor(values, dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Take the settings of a checkpoint unless the user set thresholds.

        A checkpoint without thresholds takes those of an earlier one back.
        """
        if self._pinned:
            return
        values, criterion = state.tolist(), 'max_prob'
        temperature: Temperature = None
        # Averaging weights may have moved the marks by a rounding error.
        if values and round(values[0]) == EXTENDED:
            number, split = round(values[1]), len(values) // 2 + 1
            if not 0 <= number < len(ALL_CRITERIA):
                raise ValueError(
                    f'the checkpoint leaves early by a criterion that this '
                    f'version does not know, number {number}; use the '
                    f'version that wrote it, or set thresholds')
            criterion = ALL_CRITERIA[number]
            values, temperature = values[2:split], values[split:]
        if all(value == UNSET for value in values):
            self.drop_loaded()
            return
        thresholds = check_thresholds(values, self.num_exits)
        self.temperature = check_temperature(temperature, self.num_exits)
        self.thresholds, self.criterion = thresholds, criterion

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str,
                              *args: Any, **kwargs: Any) -> None:
        """Weights without a policy take earlier thresholds back as well."""
        if f'{prefix}_extra_state' not in state_dict:
            self.drop_loaded()
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def extra_repr(self) -> str:
        """Show the settings in the printed model."""
        text = f'num_exits={self.num_exits}, thresholds={self.thresholds}'
        if self.criterion != 'max_prob':
            text += f', criterion={self.criterion!r}'
        if self.temperature is not None:
            text += f', temperature={self.temperature}'
        return text
