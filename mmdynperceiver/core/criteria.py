# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""How sure an exit is: one number in [0, 1], larger is surer."""
import math
from typing import Optional, Sequence

import torch
from torch import Tensor

from ..exit_settings import (ALL_CRITERIA, CRITERIA, SURENESS, Stopping,
                             Temperature, check_criterion, check_stopping,
                             check_temperature)

__all__ = [
    'ALL_CRITERIA', 'CRITERIA', 'check_criterion', 'check_temperature',
    'confidence', 'confidences', 'logistic', 'patience_step',
    'stopping_features'
]

# Rows whose probabilities are held at a time: 1000 classes take 2 MB.
CHUNK = 512


def confidence(logits: Tensor,
               criterion: str = 'max_prob',
               temperature: float = 1.) -> Tensor:
    """How sure the classifier of one exit is, in single precision at least.

    ``max_prob`` is the largest softmax probability, ``margin`` its distance to
    the second largest, and ``entropy`` is 1 - H / log K, where H is the
    entropy of the K probabilities: 0 if all are equal, 1 if one is 1.
    ``learned`` is for a network that says itself how sure it is, by one logit:
    its sigmoid.

    Args:
        logits (Tensor): Logits (..., K).
        criterion (str): One of these. Defaults to ``max_prob``.
        temperature (float): What the logits are divided by. Defaults to 1.

    Returns:
        Tensor: Confidence (...), in [0, 1].

    Raises:
        ValueError: If the criterion does not fit the logits.
    """
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    if temperature != 1:
        logits = logits / temperature
    if check_criterion(criterion) == 'learned':
        if logits.shape[-1] != 1:
            raise ValueError(f"the criterion 'learned' reads one logit of "
                             f'each sample, got {logits.shape[-1]}')
        return logits.squeeze(-1).sigmoid()
    probabilities = logits.softmax(-1)
    if criterion == 'max_prob':
        return probabilities.amax(-1)
    if criterion in ('patience', 'logistic'):
        raise ValueError(f'{criterion} looks at several exits; call '
                         f'confidences(all_logits, {criterion!r})')
    num_classes = logits.shape[-1]
    if num_classes < 2:
        raise ValueError(f'the criterion {criterion!r} needs at least two '
                         f'classes, got {num_classes}')
    if criterion == 'margin':
        first, second = probabilities.topk(2, dim=-1).values.unbind(-1)
        return first - second
    entropy = torch.special.entr(probabilities).sum(-1)
    # Rounding may leave the range, and a threshold of 0 must let all leave.
    return (1 - entropy / math.log(num_classes)).clamp(0, 1)


def patience_step(logits: Tensor, memory: Optional[Tensor] = None) -> Tensor:
    """Count for how many exits in a row the prediction has been the same.

    As in PABEE (arXiv 2006.04152), where a sample leaves once enough exits in
    a row agree. Takes logits (B, K) and what the exit before returned, None at
    the first; returns (B, 2) whole numbers: the class that this exit predicts,
    and how many exits up to this one predict it in a row.
    """
    predicted = logits.argmax(-1)
    if memory is None:
        return torch.stack([predicted, torch.ones_like(predicted)], 1)
    same = predicted == memory[:, 0]
    return torch.stack([predicted, 1 + memory[:, 1] * same], 1)


def stopping_features(answers: Sequence[Tensor]) -> Tensor:
    """The ``FEATURES`` (B, 5) of the last of the exits so far, from the logits
    (B, K) that each of them answers with. In double precision: near 1 a
    little more or less of a probability counts."""
    logits = torch.stack([answer.double() for answer in answers], 1)
    num_classes = logits.shape[-1]
    if num_classes < 2:
        raise ValueError(f"the criterion 'logistic' needs at least two "
                         f'classes, got {num_classes}')
    # [B, k, K] -> [B, k], [B, 2]
    probabilities = logits.softmax(-1)
    largest, predicted = probabilities.amax(-1), logits.argmax(-1)
    now = probabilities[:, -1]
    first, second = now.topk(2, -1).values.unbind(-1)
    entropy = torch.special.entr(now).sum(-1) / math.log(num_classes)
    same = (predicted[:, :-1] == predicted[:, -1:]).double()
    agreement = same.mean(1) if same.shape[1] else torch.ones_like(first)
    levels = torch.stack([first, first - second, 1 - entropy,
                          largest.amax(1)], 1)
    levels = -(1 + SURENESS - levels.clamp(0, 1)).log()
    return torch.cat([levels[:, :3], agreement[:, None], levels[:, 3:]], 1)


def logistic(answers: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Probability (B,) that stopping now is best, by a logistic model.

    From the logits (B, K) that each exit so far answers with, and a bias and
    weights of the ``FEATURES``; see
    :mod:`mmdynperceiver.calibration.learned_stopping`.
    """
    # Numbers of the host, one by one: a graph may capture this.
    first, *columns = stopping_features(answers).unbind(1)
    score = weights[0] + weights[1] * first
    for column, weight in zip(columns, weights[2:]):
        score = score + weight * column
    return score.sigmoid().float()


def confidences(all_logits: Sequence[Tensor],
                criterion: str = 'max_prob',
                temperature: Temperature = None,
                stopping: Stopping = None) -> Tensor:
    """How sure each exit is of each sample, by any criterion.

    ``patience`` at exit k is the number of exits in a row, up to k and with k,
    that predict the same class, divided by the number of exits.

    Args:
        all_logits (Sequence[Tensor]): Logits (N, K) of each exit.
        criterion (str): One of ``ALL_CRITERIA``. Defaults to ``max_prob``.
        temperature (float | Sequence[float], optional): What the logits are
            divided by, for each exit or for all. Defaults to None, 1.
        stopping (Sequence[Sequence[float]], optional): Of ``logistic``; the
            last exit is as sure as by ``max_prob``. Defaults to None.

    Returns:
        Tensor: Confidences (num_exits, N), in [0, 1].
    """
    check_criterion(criterion)
    num_exits = len(all_logits)
    stopping = check_stopping(stopping, criterion, num_exits)
    temperatures = check_temperature(temperature, num_exits)
    if temperatures is None:
        temperatures = (1., ) * num_exits
    if criterion == 'patience':
        memory, rows = None, []
        for logits in all_logits:
            memory = patience_step(logits, memory)
            rows.append(memory[:, 1] / num_exits)
        return torch.stack(rows)
    if stopping is not None:
        parts = list(zip(*(logits.split(CHUNK) for logits in all_logits)))
        return torch.stack([
            torch.cat([
                logistic(part[:k +
                              1], weights) if weights else confidence(part[k])
                for part in parts
            ]) for k, weights in enumerate([*stopping, None])
        ])
    return torch.stack([
        torch.cat([
            confidence(part, criterion, value) for part in logits.split(CHUNK)
        ]) for logits, value in zip(all_logits, temperatures)
    ])
