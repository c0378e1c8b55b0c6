# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The exit policy: who leaves where; it never sees a feature."""
from typing import Any, Mapping, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from ..exit_settings import (NEVER, DecisionSettings, Stopping, Temperature,
                             check_thresholds, fixed_exit_thresholds)
from .criteria import confidence, confidences, logistic, patience_step
from .ensembles import answers_so_far, combine, ensemble_logits, remember
from .operating_point import OperatingPoint
from .policy_state import pack, unpack

__all__ = [
    'ExitPolicy', 'Prediction', 'check_thresholds', 'fixed_exit_thresholds',
    'select_exits'
]


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
                 temperature: Temperature = None,
                 ensemble: Any = None,
                 stopping: Stopping = None) -> Prediction:
    """Replay thresholds on the logits of all exits.

    This is the simulation that really stopping must agree with.

    Args:
        all_logits (Sequence[Tensor]): Logits (B, K) of each exit, also as
            arrays.
        thresholds (Sequence[float]): One for each exit but the last.
        criterion, temperature, ensemble, stopping: As of
            :class:`ExitPolicy`.

    Raises:
        ValueError: If an argument does not fit.
    """
    thresholds = check_thresholds(thresholds, len(all_logits))
    answers = ensemble_logits([torch.as_tensor(x) for x in all_logits],
                              ensemble)
    logits = torch.stack(answers)
    conf = confidences(answers, criterion, temperature, stopping)
    exit_index = leave_at(conf, thresholds)
    rows = torch.arange(logits.shape[1], device=logits.device)
    return Prediction(logits[exit_index, rows], exit_index, conf[exit_index,
                                                                 rows])


class ExitPolicy(nn.Module, DecisionSettings):
    """Decide at each exit which samples leave.

    The policy has no parameters, but its settings travel in the state dict
    (as extra state), so a checkpoint carries its operating point. They travel
    as a tensor, because weight averages touch every entry as one.

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
        ensemble (Ensemble | Mapping, optional): How exits answer together;
            what leaves are then the logits of the ensemble, and criterion
            and temperatures are of these. Defaults to None, each alone.
        stopping (Sequence[Sequence[float]], optional): Weights of the
            criterion 'logistic'. Defaults to None.

    Raises:
        ValueError: If an argument does not fit.
    """

    def __init__(self,
                 num_exits: int = 4,
                 thresholds: Optional[Sequence[float]] = None,
                 criterion: str = 'max_prob',
                 temperature: Temperature = None,
                 ensemble: Any = None,
                 stopping: Any = None) -> None:
        super().__init__()
        self.num_exits = num_exits
        self.thresholds: Optional[Tuple[float, ...]] = None
        self._set(criterion, temperature, ensemble, stopping)
        # What holds where neither the user nor a checkpoint says more.
        self._defaults = self.settings
        # Thresholds that a user sets outrank those of a checkpoint.
        self._pinned = thresholds is not None
        # What is promised of these thresholds, see OperatingPoint.
        self.certificate: Mapping[str, Any] = {}
        if thresholds is not None:
            self.thresholds = check_thresholds(thresholds, num_exits)

    @classmethod
    def from_operating_point(cls, point: OperatingPoint) -> 'ExitPolicy':
        """The policy of an operating point."""
        policy = cls(point.num_exits, point.thresholds, **point.settings)
        policy.certificate = point.certificate
        return policy

    def set_thresholds(self, thresholds: Optional[Sequence[float]]) -> None:
        """Set the thresholds, or None to run all samples to the last exit.

        Criterion and temperatures stay; later checkpoints do not change them.

        Raises:
            ValueError: If they do not fit; the old ones then stay.
        """
        if thresholds is not None:
            thresholds = check_thresholds(thresholds, self.num_exits)
        self.thresholds, self.certificate = thresholds, {}
        self._pinned = True

    def drop_loaded(self) -> bool:
        """Drop thresholds that a checkpoint brought, and say whether there
        were any: they belong to the weights that they were calibrated for.
        What the user has set stays."""
        if self._pinned or self.thresholds is None:
            return False
        self.thresholds = None
        self._set(**self._defaults)
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
            to hand to the next exit: a tensor (B, ...), or None.
        """
        if self.ensemble is None and self.criterion == 'patience':
            memory = patience_step(logits, memory)
            conf = memory[:, 1] / self.num_exits
        elif self.ensemble is None and self.stopping is None:
            conf = self._judge(index, logits)
        else:
            memory = remember(logits, memory, self.ensemble)
            conf = self._judge_all(index, memory)
        if index == self.num_exits - 1:
            leaves = torch.ones_like(conf, dtype=torch.bool)
        elif self.thresholds is None:
            leaves = torch.zeros_like(conf, dtype=torch.bool)
        else:
            leaves = conf >= self.thresholds[index]
        return conf, leaves, memory

    def _judge(self, index: int, answer: Tensor) -> Tensor:
        """How sure one exit is, from what it answers."""
        temperature = self.temperature[index] if self.temperature else 1.
        return confidence(answer, self.criterion, temperature)

    def _judge_all(self, index: int, memory: Tensor) -> Tensor:
        """How sure an exit is, from what all so far have said."""
        if self.criterion == 'patience':
            steps = None
            for answer in answers_so_far(memory, self.ensemble):
                steps = patience_step(answer, steps)
            assert steps is not None
            return steps[:, 1] / self.num_exits
        if self.stopping is None:
            return self._judge(index, self.answer(index, memory[:, 0], memory))
        answers = answers_so_far(memory, self.ensemble)
        if index == self.num_exits - 1:
            return confidence(answers[-1])
        return logistic(answers, self.stopping[index])

    def answer(self, index: int, logits: Tensor,
               memory: Optional[Tensor]) -> Tensor:
        """What an exit answers with (B, K): its logits, or with an ensemble
        those that it has with the exits before it, from what :meth:`decide`
        returned to hand on."""
        if self.ensemble is None or memory is None:
            return logits
        return combine(memory.unbind(1), self.ensemble.weights[index])

    def replay(self, all_logits: Sequence[Tensor]) -> Prediction:
        """Decide on the logits (B, K) of all exits, as if really stopping."""
        thresholds = self.thresholds
        if thresholds is None:
            thresholds = (NEVER, ) * (self.num_exits - 1)
        return select_exits(all_logits, thresholds, **self.settings)

    def get_extra_state(self) -> Tensor:
        """All settings, in double precision, see :func:`policy_state.pack`."""
        values = pack(
            dict(self.settings, thresholds=self.thresholds), self.num_exits)
        return torch.tensor(values, dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Take the settings of a checkpoint unless the user set thresholds.

        A checkpoint without thresholds takes those of an earlier one back.
        """
        if self._pinned:
            return
        settings = unpack(state.tolist(), self.num_exits)
        thresholds = settings.pop('thresholds')
        if thresholds is None:
            self.drop_loaded()
            return
        thresholds = check_thresholds(thresholds, self.num_exits)
        self._set(**settings)
        self.thresholds = thresholds

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
        if self.ensemble is not None:
            text += f', ensemble={self.ensemble.kind!r}'
        return text
