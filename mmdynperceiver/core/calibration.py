# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Thresholds from held-out confidences, and what they bring."""
from typing import List, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor

from .complexity import expected_macs
from .policy import NEVER, confidence, select_exits

__all__ = ['Outcome', 'evaluate_thresholds', 'paper_shares', 'solve_by_shares']


class Outcome(NamedTuple):
    """What thresholds bring on labelled samples.

    Args:
        accuracy (float): Share of samples whose label is right, in [0, 1].
        shares (tuple[float]): Share of samples that leave at each exit.
        macs (float): Mean MACs of one sample.
    """

    accuracy: float
    shares: Tuple[float, ...]
    macs: float


def paper_shares(num_exits: int = 4) -> List[Tuple[float, ...]]:
    """The published sweep of 33 target shares, cheap to expensive.

    Shares are proportional to p, p^2, p^3, ... for 33 values of p; then the
    first exits' shares are multiplied in turn by 0.85, 1 and 0.5, and the
    later ones rescaled so that all sum to 1.

    Args:
        num_exits (int): Number of exits; the corrections are for 4. Defaults
            to 4.

    Returns:
        list[tuple[float]]: One tuple of ``num_exits`` shares for each point.
    """
    bases = [(i + 4) / 20 for i in range(17)]
    bases += [20 / (37 - i) for i in range(17, 33)]
    return [_shares(base, num_exits) for base in bases]


def _shares(base: float, num_exits: int) -> Tuple[float, ...]:
    """Shares of one point of the sweep."""
    shares = [base**k for k in range(1, num_exits + 1)]
    shares = [share / sum(shares) for share in shares]
    for k, factor in enumerate((0.85, 1., 0.5)[:num_exits - 1]):
        shares[k] *= factor
        rest = 1 - sum(shares[:k + 1])
        later = sum(shares[k + 1:])
        shares[k + 1:] = [share * rest / later for share in shares[k + 1:]]
    return tuple(shares)


def solve_by_shares(all_logits: Sequence[Tensor],
                    shares: Sequence[float]) -> Tuple[float, ...]:
    """Thresholds at which given shares of held-out samples leave.

    As in MSDNet's budgeted batch classification (arXiv 1703.09844): at each
    exit the samples still under way are sorted by confidence, and the
    threshold is the confidence of the last one taken.

    Args:
        all_logits (Sequence[Tensor]): Held-out logits (N, K) of each exit.
        shares (Sequence[float]): Target share of each exit, summing to 1.

    Returns:
        tuple[float]: One threshold for each exit but the last.

    Raises:
        ValueError: If the shares do not fit, or there are no samples or
            they hold NaN.
    """
    if len(shares) != len(all_logits) or min(shares) < 0 or \
            abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f'shares must be {len(all_logits)} numbers of at '
                         f'least 0 that sum to 1, got {tuple(shares)}')
    confidences = confidence(torch.stack(tuple(all_logits)))
    num_samples = confidences.shape[1]
    if num_samples == 0 or confidences.isnan().any():
        raise ValueError(f'thresholds need held-out logits without NaN, got '
                         f'{num_samples} samples')
    under_way = torch.ones(num_samples, dtype=torch.bool)
    thresholds = []
    for k, share in enumerate(shares[:-1]):
        candidates = confidences[k][under_way].sort(descending=True).values
        take = min(int(num_samples * share + 0.5), len(candidates))
        threshold = candidates[take - 1].item() if take else NEVER
        thresholds.append(threshold)
        under_way &= confidences[k] < threshold
    return tuple(thresholds)


def evaluate_thresholds(all_logits: Sequence[Tensor], labels: Tensor,
                        macs: Sequence[float],
                        thresholds: Sequence[float]) -> Outcome:
    """Replay thresholds on labelled samples.

    Args:
        all_logits (Sequence[Tensor]): Logits (N, K) of each exit.
        labels (Tensor): True classes (N,).
        macs (Sequence[float]): Cumulative MACs of each exit.
        thresholds (Sequence[float]): One for each exit but the last.

    Returns:
        Outcome: Accuracy, share of each exit and mean MACs.
    """
    out = select_exits(all_logits, thresholds)
    right = (out.logits.argmax(1) == labels).float().mean().item()
    counts = torch.bincount(out.exit_index, minlength=len(all_logits))
    shares = tuple((counts / len(labels)).tolist())
    return Outcome(right, shares, expected_macs(shares, macs))
