# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The exit policy in NumPy.

It decides as :class:`mmdynperceiver.core.ExitPolicy` does; the tests compare
the two.
"""
import math
from typing import NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..exit_settings import (CRITERIA, Temperature, check_criterion,
                             check_temperature, check_thresholds)

__all__ = [
    'Decision', 'Policy', 'all_finite', 'confidence', 'patience_step',
    'softmax'
]


class Decision(NamedTuple):
    """What a policy says at one exit.

    Args:
        confidence (ndarray): Confidence (B,) in [0, 1].
        leaves (ndarray): Who leaves here (B,), boolean.
        memory (ndarray, optional): What to hand to the next exit (B, 2).
    """

    confidence: np.ndarray
    leaves: np.ndarray
    memory: Optional[np.ndarray]


class Policy:
    """Decide at each exit which samples leave.

    Args:
        num_exits (int): Number of exits.
        thresholds (Sequence[float], optional): One for each exit but the
            last. Defaults to None: all samples run to the last exit.
        criterion (str): What the thresholds are compared with: 'max_prob',
            'entropy', 'margin' or 'patience'. Defaults to 'max_prob'.
        temperature (float | Sequence[float], optional): What the logits are
            divided by, for each exit or for all. Defaults to None, 1.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If an argument does not fit.
    """

    def __init__(self,
                 num_exits: int,
                 thresholds: Optional[Sequence[float]] = None,
                 criterion: str = 'max_prob',
                 temperature: Temperature = None) -> None:
        self.num_exits = num_exits
        self.thresholds: Optional[Tuple[float, ...]] = None
        if thresholds is not None:
            self.thresholds = check_thresholds(thresholds, num_exits)
        self.criterion = check_criterion(criterion, CRITERIA)
        self.temperature = check_temperature(temperature, num_exits)

    def decide(self,
               index: int,
               logits: np.ndarray,
               memory: Optional[np.ndarray] = None) -> Decision:
        """Decide which samples leave at exit ``index``, 0-based.

        From their logits (B, K), and what the exit before handed on for them.
        """
        if self.criterion == 'patience':
            memory = patience_step(logits, memory)
            conf = (memory[:, 1] / self.num_exits).astype(np.float32)
        else:
            temperature = self.temperature[index] if self.temperature else 1.
            conf = confidence(logits, self.criterion, temperature)
        if index == self.num_exits - 1:
            leaves = np.ones(len(conf), bool)
        elif self.thresholds is None:
            leaves = np.zeros(len(conf), bool)
        else:
            leaves = conf >= np.float32(self.thresholds[index])
        return Decision(conf, leaves, memory)


def all_finite(values: np.ndarray) -> bool:
    """Whether there is no NaN and no infinity in an array."""
    # The sum is quick, but may be too large where its terms are not.
    with np.errstate(over='ignore', invalid='ignore'):
        total = np.add.reduce(values, None)
    return math.isfinite(total) or bool(np.isfinite(values).all())


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits (..., K)."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def confidence(logits: np.ndarray,
               criterion: str = 'max_prob',
               temperature: float = 1.) -> np.ndarray:
    """How sure the classifier of one exit is, from logits (B, K): (B,).

    The criterion is 'max_prob', 'entropy' or 'margin', and confidence lies in
    [0, 1].
    """
    if temperature != 1:
        logits = logits / np.float32(temperature)
    if criterion == 'max_prob':
        # The largest of the powers is 1.
        largest = logits.max(-1, keepdims=True)
        return 1 / np.exp(logits - largest).sum(-1)
    probabilities = softmax(logits)
    if criterion == 'patience':
        raise ValueError('patience compares the predictions of several exits')
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
