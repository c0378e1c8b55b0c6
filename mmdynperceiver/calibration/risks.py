# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What leaving early risks, against the last exit (arXiv 2405.20915)."""
from typing import Optional, Sequence

import torch
from torch import Tensor

from ..core.policy import leave_at

__all__ = ['CLASS_RISKS', 'RISKS', 'check_risk', 'early_exit_losses']

# Name of each risk: the least and the largest loss of a sample.
RISKS = {
    'disagreement': (0., 1.),
    'accuracy-gap': (-1., 1.),
    'loss-gap': (-1., 1.)
}
CLASS_RISKS = ('disagreement', 'accuracy-gap')


def check_risk(risk: str) -> None:
    """Refuse what is not the name of a risk.

    Raises:
        ValueError: If there is no such risk.
    """
    if risk not in RISKS:
        raise ValueError(f'risk must be one of {", ".join(RISKS)}, got '
                         f'{risk!r}')


def early_exit_losses(confidences: Tensor,
                      answers: Tensor,
                      path: Sequence[Sequence[float]],
                      risk: str = 'disagreement',
                      labels: Optional[Tensor] = None) -> Tensor:
    """What leaving early loses on each sample, against the last exit.

    Args:
        confidences (Tensor): Confidence (num_exits, N) at each exit.
        answers (Tensor): Class (num_exits, N) that each exit says; for
            'loss-gap' what it is worth.
        path (Sequence[Sequence[float]]): Thresholds of each point.
        risk (str): 'disagreement' (1 where the class is another one), or
            'accuracy-gap' (1 where only the last exit is right, -1 where
            only the early one is), or 'loss-gap' (how much less the early
            answer is worth, between -1 and 1). Defaults to 'disagreement'.
        labels (Tensor, optional): True classes (N,), for 'accuracy-gap'.

    Returns:
        Tensor: Losses (len(path), N).

    Raises:
        ValueError: If there is no such risk, or it lacks labels.
    """
    check_risk(risk)
    if risk == 'accuracy-gap' and labels is None:
        raise ValueError('the risk accuracy-gap needs labels; disagreement '
                         'with the last exit needs none')
    losses = []
    for thresholds in path:
        exits = leave_at(confidences, thresholds)
        early = answers.gather(0, exits[None])[0]
        if risk == 'loss-gap':
            losses.append((answers[-1] - early).double().clamp(-1, 1))
        elif labels is None or risk == 'disagreement':
            losses.append((early != answers[-1]).double())
        else:
            losses.append((answers[-1] == labels).double() -
                          (early == labels).double())
    return torch.stack(losses)
