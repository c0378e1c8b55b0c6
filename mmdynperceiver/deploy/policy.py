# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The exit policy in NumPy.

It decides as :class:`mmdynperceiver.core.ExitPolicy` does; the tests compare
the two.

When a graph has just run, hardly anything of Python and NumPy is in the
processor's caches, and each function that comes in takes microseconds. So
what every exit needs is done by ufuncs and their ``reduce``, not by those of
NumPy's functions and methods that are Python around the same.
"""
import math
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..exit_settings import (CRITERIA, LEAST_EXPERT, NEVER, SURENESS,
                             DecisionSettings, Temperature, check_thresholds)

__all__ = [
    'Decision', 'Policy', 'all_finite', 'confidence', 'logistic',
    'patience_step', 'sigmoid', 'softmax'
]


class Decision(NamedTuple):
    """What a policy says at one exit.

    Args:
        confidence (ndarray): Confidence (B,) in [0, 1].
        leaves (ndarray): Who leaves here (B,), boolean.
        memory (ndarray, optional): What to hand to the next exit (B, ...).
    """

    confidence: np.ndarray
    leaves: np.ndarray
    memory: Optional[np.ndarray]


class Policy(DecisionSettings):
    """Decide at each exit which samples leave.

    Args:
        num_exits (int): Number of exits.
        thresholds (Sequence[float], optional): One for each exit but the
            last. Defaults to None: all samples run to the last exit.
        criterion (str): What the thresholds are compared with: 'max_prob',
            'entropy', 'margin', 'patience' or 'logistic'. Defaults to
            'max_prob'.
        temperature (float | Sequence[float], optional): What the logits are
            divided by, for each exit or for all. Defaults to None, 1.
        ensemble (Mapping, optional): How exits answer together, see
            :class:`mmdynperceiver.exit_settings.Ensemble`. Defaults to None,
            each alone.
        stopping (Sequence[Sequence[float]], optional): Weights of the
            criterion 'logistic'. Defaults to None.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If an argument does not fit.
    """

    def __init__(self,
                 num_exits: int,
                 thresholds: Optional[Sequence[float]] = None,
                 criterion: str = 'max_prob',
                 temperature: Temperature = None,
                 ensemble: Any = None,
                 stopping: Any = None) -> None:
        self.num_exits = num_exits
        self.thresholds: Optional[Tuple[float, ...]] = None
        if thresholds is not None:
            self.thresholds = check_thresholds(thresholds, num_exits)
        self._set(criterion, temperature, ensemble, stopping,
                  (*CRITERIA, 'learned', 'logistic'))

    @property
    def lets_leave(self) -> bool:
        """Whether anyone can leave before the last exit: no confidence is
        above 1."""
        return self.thresholds is not None and min(
            self.thresholds, default=NEVER) <= 1

    def decide(self,
               index: int,
               logits: np.ndarray,
               memory: Optional[np.ndarray] = None) -> Decision:
        """Decide which samples leave at exit ``index``, 0-based.

        From their logits (B, K), and what the exit before handed on for them.
        """
        if self.ensemble is None and self.criterion == 'patience':
            memory = patience_step(logits, memory)
            conf = (memory[:, 1] / self.num_exits).astype(np.float32)
        elif self.ensemble is None and self.stopping is None:
            conf = self._judge(index, logits)
        else:
            row = self._evidence(logits)[:, None]
            memory = row if memory is None else np.concatenate([memory, row],
                                                               1)
            conf = self._judge_all(index, memory)
        last = index == self.num_exits - 1
        if last or self.thresholds is None:
            leaves = np.array([last] * len(conf), bool)
        else:
            # NumPy compares in float32.
            leaves = conf >= self.thresholds[index]
        return Decision(conf, leaves, memory)

    def _judge(self, index: int, answer: np.ndarray) -> np.ndarray:
        """How sure one exit is, from what it answers."""
        temperature = self.temperature[index] if self.temperature else 1.
        return confidence(answer, self.criterion, temperature)

    def _judge_all(self, index: int, memory: np.ndarray) -> np.ndarray:
        """How sure an exit is, from what all so far have said."""
        if self.criterion not in ('patience', 'logistic'):
            return self._judge(index, self._combine(index, memory))
        answers = [self._combine(k, memory) for k in range(index + 1)]
        if self.stopping is None:
            steps = None
            for answer in answers:
                steps = patience_step(answer, steps)
            assert steps is not None
            return (steps[:, 1] / self.num_exits).astype(np.float32)
        if index == self.num_exits - 1:
            return confidence(answers[-1])
        return logistic(answers, self.stopping[index])

    def _evidence(self, logits: np.ndarray) -> np.ndarray:
        """What the weights of an ensemble are multiplied with."""
        if self.ensemble is not None and self.ensemble.kind == 'product':
            return np.log(np.maximum(logits, np.float32(LEAST_EXPERT)))
        return logits

    def _combine(self, index: int, memory: np.ndarray) -> np.ndarray:
        """What an exit answers with (B, K), from the evidence so far."""
        if self.ensemble is None:
            return memory[:, index]
        weights = np.asarray(self.ensemble.weights[index], np.float32)
        total = weights[0] * memory[:, 0]
        for k, weight in enumerate(weights[1:], 1):
            total += weight * memory[:, k]
        return total

    def answer(self, index: int, logits: np.ndarray,
               memory: Optional[np.ndarray]) -> np.ndarray:
        """What an exit answers with (B, K): its logits, or with an ensemble
        those that it has with the exits before it, from what :meth:`decide`
        handed on."""
        if self.ensemble is None or memory is None:
            return logits
        return self._combine(index, memory)

    def last_answer(self, all_logits: Sequence[np.ndarray]) -> np.ndarray:
        """What the last exit answers with (B, K), from the logits of all."""
        if self.ensemble is None:
            return all_logits[-1]
        evidence = [self._evidence(logits) for logits in all_logits]
        return self._combine(self.num_exits - 1, np.stack(evidence, 1))


def all_finite(values: np.ndarray) -> bool:
    """Whether there is no NaN and no infinity in an array."""
    # Bytes are searched in no time.
    return 0 not in np.isfinite(values).tobytes()


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits (..., K)."""
    powers = _powers(logits)
    return powers / np.add.reduce(powers, -1, keepdims=True)


def _powers(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits (..., K), times what makes the largest 1."""
    return np.exp(logits - np.maximum.reduce(logits, -1, keepdims=True))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """The logistic function of logits of any shape."""
    with np.errstate(over='ignore'):
        return 1 / (1 + np.exp(-logits))


def confidence(logits: np.ndarray,
               criterion: str = 'max_prob',
               temperature: float = 1.) -> np.ndarray:
    """How sure the classifier of one exit is, from logits (B, K): (B,).

    The criterion is 'max_prob', 'entropy' or 'margin', or 'learned' for one
    logit (B, 1), and confidence lies in [0, 1].
    """
    if temperature != 1:
        logits = logits / np.float32(temperature)
    if criterion == 'learned':
        return sigmoid(logits[:, 0])
    if criterion == 'max_prob':
        return 1 / np.add.reduce(_powers(logits), -1)
    probabilities = softmax(logits)
    if criterion not in ('margin', 'entropy'):
        raise ValueError(f'{criterion} looks at several exits')
    num_classes = logits.shape[-1]
    if num_classes < 2:
        raise ValueError(f'the criterion {criterion!r} needs at least two '
                         f'classes, got {num_classes}')
    if criterion == 'margin':
        second, first = np.partition(probabilities, -2, -1)[..., -2:].T
        return first - second
    # 0 * log 0 counts as 0.
    logs = np.log(np.where(probabilities > 0, probabilities, 1))
    entropy = -(probabilities * logs).sum(-1)
    share = entropy / np.float32(math.log(num_classes))
    # Rounding may leave the range, and a threshold of 0 must let all leave.
    return np.clip(1 - share, 0, 1)


def patience_step(logits: np.ndarray,
                  memory: Optional[np.ndarray] = None) -> np.ndarray:
    """Count for how many exits in a row the prediction has been the same.

    From logits (B, K) and what the exit before returned, (B, 2) whole
    numbers: the class that this exit predicts, and how many exits up to this
    one predict it in a row.
    """
    predicted = logits.argmax(-1)
    if memory is None:
        return np.stack([predicted, np.ones_like(predicted)], 1)
    same = predicted == memory[:, 0]
    return np.stack([predicted, 1 + memory[:, 1] * same], 1)


def logistic(answers: List[np.ndarray],
             weights: Sequence[float]) -> np.ndarray:
    """Probability (B,) that stopping now is best, by a logistic model.

    From the logits (B, K) that each exit so far answers with, and a bias and
    weights of what :func:`mmdynperceiver.core.criteria.stopping_features`
    tells.
    """
    logits = np.stack(answers, 1).astype(np.float64)
    num_classes = logits.shape[-1]
    if num_classes < 2:
        raise ValueError(f"the criterion 'logistic' needs at least two "
                         f'classes, got {num_classes}')
    # [B, k, K] -> [B, k], [B, 2]
    probabilities, predicted = softmax(logits), logits.argmax(-1)
    now = probabilities[:, -1]
    second, first = np.partition(now, -2, -1)[:, -2:].T
    logs = np.log(np.where(now > 0, now, 1))
    entropy = -(now * logs).sum(-1) / math.log(num_classes)
    same = predicted[:, :-1] == predicted[:, -1:]
    agreement = same.mean(1) if same.shape[1] else np.ones_like(first)
    levels = np.stack(
        [first, first - second, 1 - entropy,
         probabilities.max(-1).max(1)], 1)
    levels = -np.log(1 + SURENESS - levels.clip(0, 1))
    first_three = levels[:, :3] @ np.asarray(weights[1:4])
    score = weights[0] + first_three + weights[4] * agreement + \
        weights[5] * levels[:, 3]
    with np.errstate(over='ignore'):
        return (1 / (1 + np.exp(-score))).astype(np.float32)
