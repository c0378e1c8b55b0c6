# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The exit policy: who leaves where; it never sees a feature."""
import math
from typing import NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

__all__ = [
    'ExitPolicy', 'Prediction', 'check_thresholds', 'confidence',
    'fixed_exit_thresholds', 'select_exits'
]

# A confidence is at most 1, so nothing ever reaches this threshold.
NEVER = 2.
# Stands in a checkpoint for each threshold that is not set.
UNSET = -1.


class Prediction(NamedTuple):
    """Outcome of an early-exiting pass.

    Args:
        logits (Tensor): Logits (B, K) of the exit at which each sample left.
        exit_index (Tensor): That exit (B,), 0-based.
        confidence (Tensor): Confidence (B,) at that exit.
    """

    logits: Tensor
    exit_index: Tensor
    confidence: Tensor


def confidence(logits: Tensor) -> Tensor:
    """Largest softmax probability, in single precision at least.

    Args:
        logits (Tensor): Logits (..., K).

    Returns:
        Tensor: Confidence (...), in (0, 1].
    """
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    return logits.softmax(-1).amax(-1)


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
    if isinstance(thresholds, Tensor):
        thresholds = thresholds.tolist()
    try:
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


def select_exits(all_logits: Sequence[Tensor],
                 thresholds: Sequence[float]) -> Prediction:
    """Replay thresholds on the logits of all exits.

    This is the simulation that really stopping must agree with.

    Args:
        all_logits (Sequence[Tensor]): Logits (B, K) of each exit.
        thresholds (Sequence[float]): One for each exit but the last.

    Returns:
        Prediction: What each sample gets at the exit where it leaves.
    """
    thresholds = check_thresholds(thresholds, len(all_logits))
    logits = torch.stack(tuple(all_logits))
    confidences = confidence(logits)
    leaves = torch.ones_like(confidences, dtype=torch.bool)
    for k, threshold in enumerate(thresholds):
        leaves[k] = confidences[k] >= threshold
    # argmax of booleans gives the first exit that lets the sample leave.
    exit_index = leaves.int().argmax(0)
    rows = torch.arange(logits.shape[1], device=logits.device)
    return Prediction(logits[exit_index, rows], exit_index,
                      confidences[exit_index, rows])


class ExitPolicy(nn.Module):
    """Decide at each exit which samples leave.

    The policy has no parameters, but its thresholds travel in the state dict
    (as extra state), so a checkpoint carries its operating point. They travel
    as a tensor, because weight averages touch every entry as one.

    Args:
        num_exits (int): Number of exits. Defaults to 4.
        thresholds (Sequence[float], optional): One for each exit but the
            last. None: taken from the checkpoint if that has any; otherwise
            all samples run to the last exit. Defaults to None.

    Raises:
        ValueError: If the thresholds do not fit.
    """

    def __init__(self,
                 num_exits: int = 4,
                 thresholds: Optional[Sequence[float]] = None) -> None:
        super().__init__()
        self.num_exits = num_exits
        self.thresholds: Optional[Tuple[float, ...]] = None
        # Thresholds that a user sets outrank those of a checkpoint.
        self._pinned = thresholds is not None
        if thresholds is not None:
            self.thresholds = check_thresholds(thresholds, num_exits)

    def set_thresholds(self, thresholds: Optional[Sequence[float]]) -> None:
        """Set the thresholds; checkpoints loaded later do not change them.

        Args:
            thresholds (Sequence[float], optional): One for each exit but the
                last, or None to run all samples to the last exit.

        Raises:
            ValueError: If they do not fit; the old ones then stay.
        """
        if thresholds is not None:
            thresholds = check_thresholds(thresholds, self.num_exits)
        self.thresholds = thresholds
        self._pinned = True

    def decide(self, index: int, logits: Tensor) -> Tuple[Tensor, Tensor]:
        """Decide who leaves at one exit.

        Args:
            index (int): Exit number.
            logits (Tensor): Logits (B, K).

        Returns:
            tuple[Tensor]: Confidence (B,), and who leaves (B,), boolean.
        """
        conf = confidence(logits)
        if index == self.num_exits - 1:
            return conf, torch.ones_like(conf, dtype=torch.bool)
        if self.thresholds is None:
            return conf, torch.zeros_like(conf, dtype=torch.bool)
        return conf, conf >= self.thresholds[index]

    def get_extra_state(self) -> Tensor:
        """Thresholds as a tensor of double precision; all -1: none set."""
        thresholds = self.thresholds
        if thresholds is None:
            thresholds = (UNSET, ) * (self.num_exits - 1)
        return torch.tensor(thresholds, dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Take the thresholds of a checkpoint unless the user set some."""
        values = state.tolist()
        if self._pinned or all(value == UNSET for value in values):
            return
        self.thresholds = check_thresholds(values, self.num_exits)

    def extra_repr(self) -> str:
        """Show the thresholds in the printed model."""
        return f'num_exits={self.num_exits}, thresholds={self.thresholds}'
