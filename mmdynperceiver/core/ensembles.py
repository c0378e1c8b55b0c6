# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Exits that answer together with those before them."""
from typing import Any, List, Optional, Sequence

import torch
from torch import Tensor

from ..exit_settings import LEAST_EXPERT, Ensemble, check_ensemble

__all__ = ['answers_so_far', 'combine', 'ensemble_logits', 'remember']


def _evidence(logits: Tensor, ensemble: Optional[Ensemble]) -> Tensor:
    """What weights are multiplied with, in single precision at least."""
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    if ensemble is not None and ensemble.kind == 'product':
        return logits.clamp(min=LEAST_EXPERT).log()
    return logits


def remember(logits: Tensor, memory: Optional[Tensor],
             ensemble: Optional[Ensemble]) -> Tensor:
    """Add logits (B, K) to those of earlier exits (B, k, K)."""
    row = _evidence(logits, ensemble)[:, None]
    return row if memory is None else torch.cat([memory, row], 1)


def combine(evidence: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The weighted sum of what exits say, each (B, K)."""
    total = weights[0] * evidence[0]
    for part, weight in zip(evidence[1:], weights[1:]):
        total = total + weight * part
    return total


def _answers(evidence: Sequence[Tensor],
             ensemble: Optional[Ensemble]) -> List[Tensor]:
    """What each exit answers with, from the evidence of all so far."""
    if ensemble is None:
        return list(evidence)
    return [
        combine(evidence[:k + 1], weights)
        for k, weights in enumerate(ensemble.weights[:len(evidence)])
    ]


def answers_so_far(memory: Tensor,
                   ensemble: Optional[Ensemble]) -> List[Tensor]:
    """Logits (B, K) that each exit so far answers with, from what
    :func:`remember` keeps."""
    return _answers(memory.unbind(1), ensemble)


def ensemble_logits(all_logits: Sequence[Tensor],
                    ensemble: Any) -> List[Tensor]:
    """Logits (N, K) that each exit answers with, from its own and all before.

    Those of the exits, where there is no ensemble.

    Raises:
        ValueError: If it is none for so many exits.
    """
    ensemble = check_ensemble(ensemble, len(all_logits))
    if ensemble is not None:
        all_logits = [_evidence(logits, ensemble) for logits in all_logits]
    return _answers(all_logits, ensemble)
