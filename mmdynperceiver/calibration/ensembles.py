# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""How much each exit counts in an ensemble."""
from typing import Any, Dict, List, Sequence

import torch
from torch import Tensor

from ..core.criteria import CHUNK
from .exit_logits import ExitLogits
from .outcomes import check_samples

__all__ = ['fit_ensemble', 'fit_geometric']

# A few numbers are fitted as well on so many samples as on more.
MOST_SAMPLES = 10000
STEPS = 20


def fit_ensemble(kind: str, exits: ExitLogits,
                 rows: Any = slice(None)) -> Dict[str, Any]:
    """Weights of an ensemble, see :class:`Ensemble`.

    In a running average an exit counts by what it costs (arXiv 2302.06359),
    in a product of experts by its place (arXiv 2306.02652); those of the
    geometric one are learned (arXiv 2106.05409), here without the biases of
    the classes, which a few thousand samples would not tell.

    Args:
        kind (str): 'average', 'geometric' or 'product'.
        exits (ExitLogits): Held-out samples.
        rows (Tensor | slice): Those to learn from. Defaults to all.

    Raises:
        ValueError: If the samples do not fit or the logits hold NaN.
    """
    count = len(exits.logits)
    if kind == 'geometric':
        labels = exits.labels[rows][:MOST_SAMPLES]
        logits = [part[rows][:MOST_SAMPLES] for part in exits.logits]
        check_samples(logits, labels)
        weights = [fit_geometric(logits[:k + 1], labels) for k in range(count)]
    elif kind == 'average':
        weights = [[
            cost / sum(exits.macs[:k + 1]) for cost in exits.macs[:k + 1]
        ] for k in range(count)]
    else:
        weights = [[(j + 1) / count for j in range(k + 1)]
                   for k in range(count)]
    return dict(kind=kind, weights=weights)


def fit_geometric(all_logits: Sequence[Tensor], labels: Tensor) -> List[float]:
    """Weights of logits (N, K) whose sum fits labels (N,) best.

    Newton steps, halved where they lead too far: the negative log-likelihood
    is convex in the weights.
    """
    count = len(all_logits)
    weights = torch.zeros(count, dtype=torch.float64)
    weights[-1] = 1
    loss, slope, curvature = _likelihood(all_logits, labels, weights)
    for _ in range(STEPS):
        # A little is added where the logits of exits are nearly the same.
        ridge = 1e-9 * (1 + curvature.trace()) * torch.eye(count).double()
        step = torch.linalg.solve(curvature + ridge, slope)
        for _ in range(STEPS):
            found = _likelihood(all_logits, labels, weights - step)
            if found[0] <= loss:
                break
            step /= 2
        else:
            break
        weights = weights - step
        before, (loss, slope, curvature) = loss, found
        if before - loss <= 1e-9 * (1 + before):
            break
    return weights.tolist()


def _likelihood(all_logits: Sequence[Tensor], labels: Tensor,
                weights: Tensor) -> Any:
    """Mean negative log-likelihood, and its derivatives by the weights."""
    count = len(all_logits)
    loss, slope = 0., torch.zeros(count).double()
    curvature = torch.zeros(count, count).double()
    for *parts, wanted in zip(*(x.split(CHUNK) for x in all_logits),
                              labels.split(CHUNK)):
        # [N, count, K]
        stacked = torch.stack([part.float() for part in parts], 1)
        sums = torch.einsum('nck,c->nk', stacked, weights.float())
        logs = sums.log_softmax(1)
        probabilities = logs.exp()
        means = torch.einsum('nck,nk->nc', stacked, probabilities)
        picked = stacked.gather(2, wanted[:, None, None].expand(-1, count,
                                                                1)).squeeze(2)
        loss -= logs.gather(1, wanted[:, None]).double().sum().item()
        slope += (means - picked).double().sum(0)
        weighted = stacked * probabilities[:, None]
        curvature += torch.einsum('nck,ndk->cd', weighted, stacked).double()
        curvature -= torch.einsum('nc,nd->cd', means, means).double()
    total = len(labels)
    return loss / total, slope / total, curvature / total
