# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Thresholds from the shares of samples that shall leave at each exit."""
from contextlib import contextmanager
from typing import Iterator, List, Sequence, Tuple

import torch
from torch import Tensor

from ..core.policy import NEVER
from .outcomes import ExitOutcomes, check_shares

__all__ = ['paper_shares', 'share_solution_for_budget', 'solve_by_shares']

# A threshold lies at most this far below the smallest confidence that
# reaches it, so that rounding does not decide who leaves.
GAP = 1e-5
# Steps of the bisection; more would move less than one of 10^6 samples.
HALVINGS = 24
# A mean that equals the budget may come out a rounding error above it.
ROUNDING = 1 + 1e-12


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch compute in one thread: the solvers' tensors are small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def paper_shares(num_exits: int = 4) -> List[Tuple[float, ...]]:
    """The published sweep of 33 target shares of the exits, cheap first.

    Shares are proportional to p, p^2, p^3, ... for 33 values of p; then the
    first exits' shares are multiplied in turn by 0.85, 1 and 0.5 (this is
    for 4 exits), and the later ones rescaled so that all sum to 1.
    """
    bases = [(i + 4) / 20 for i in range(17)]
    bases += [20 / (37 - i) for i in range(17, 33)]
    return [_shares(base, num_exits) for base in bases]


def _shares(base: float, num_exits: int) -> Tuple[float, ...]:
    """Shares of one point of the sweep."""
    # Proportional to powers of p or, from the last exit back, of 1 / p.
    powers = range(num_exits) if base <= 1 else range(1 - num_exits, 1)
    shares = [base**k for k in powers]
    shares = [share / sum(shares) for share in shares]
    for k, factor in enumerate((0.85, 1., 0.5)[:num_exits - 1]):
        shares[k] *= factor
        rest = 1 - sum(shares[:k + 1])
        later = sum(shares[k + 1:])
        shares[k + 1:] = [share * rest / later for share in shares[k + 1:]]
    return tuple(shares)


def just_below(lowest: Tensor, others: Tensor) -> float:
    """A threshold that ``lowest`` of all confidences reaches, none smaller.

    It lies at most ``GAP`` and at most half the distance to the next smaller
    confidence below.
    """
    smaller = others[others < lowest]
    value = (lowest - GAP).clamp(min=0)
    if len(smaller):
        value = torch.maximum(value, (lowest + smaller.max()) / 2)
        if value <= smaller.max():  # neighbours in this precision
            value = lowest
    return value.item()


def solve_by_shares(confidence: Tensor,
                    shares: Sequence[float]) -> Tuple[float, ...]:
    """Thresholds at which given shares of held-out samples leave.

    As in MSDNet's budgeted batch classification (arXiv 1703.09844): at each
    exit the samples still under way are sorted by confidence, and the
    threshold is the confidence of the last one taken (here a hair below it,
    at most 1e-5, so that rounding does not decide who leaves).

    Args:
        confidence (Tensor): How sure each exit is (num_exits, N).
        shares (Sequence[float]): Target share of each exit, summing to 1.

    Returns:
        tuple[float]: One threshold for each exit but the last.

    Raises:
        ValueError: If the shares do not fit, or there are no samples or
            they hold NaN.
    """
    num_exits, num_samples = confidence.shape
    shares = check_shares(shares, num_exits)
    if num_samples == 0 or confidence.isnan().any():
        raise ValueError(
            f'thresholds need held-out confidences without NaN, got '
            f'{num_samples} samples')
    under_way = torch.ones_like(confidence[0], dtype=torch.bool)
    thresholds = []
    for row, share in zip(confidence, shares[:-1]):
        candidates = row[under_way]
        take = min(int(num_samples * share + 0.5), len(candidates))
        if take == 0:
            thresholds.append(NEVER)
            continue
        lowest = candidates.kthvalue(len(candidates) - take + 1).values
        thresholds.append(just_below(lowest, candidates))
        under_way &= row < thresholds[-1]
    return tuple(thresholds)


@one_thread()
def share_solution_for_budget(outcomes: ExitOutcomes,
                              budget: float) -> Tuple[float, ...]:
    """Thresholds of the published sweep that just keep a mean cost.

    The sweep's p is bisected. The sweep begins with about two thirds of the
    samples at the first exit; before it the shares run from all samples at
    the first exit to that.

    Raises:
        ValueError: If the budget is below the cost of the first exit.
    """
    num_exits = outcomes.num_exits
    check_budget(budget, outcomes.cost)
    # All leave at the first exit: this keeps every budget.
    best, best_cost = (0., ) * (num_exits - 1), outcomes.cost[0]
    low, high = 0., 2.
    position = high
    for _ in range(HALVINGS):
        thresholds = solve_by_shares(outcomes.confidence,
                                     _position_shares(position, num_exits))
        cost = outcomes.evaluate(thresholds).cost
        if cost <= budget * ROUNDING:
            low = position
            if cost >= best_cost:
                best, best_cost = thresholds, cost
        else:
            high = position
        if low == high:
            break
        position = (low + high) / 2
    return best


def _position_shares(position: float, num_exits: int) -> Tuple[float, ...]:
    """Shares from all at the first exit (0) to all at the last (2)."""
    start = 0.2  # the first p of the sweep
    if position >= 2:
        return (*[0.] * (num_exits - 1), 1.)
    if position >= 1:
        return _shares(start / (2 - position)**4, num_exits)
    cheapest = _shares(start, num_exits)
    return (1 - position * (1 - cheapest[0]),
            *[position * share for share in cheapest[1:]])


def check_budget(budget: float, costs: Sequence[float]) -> None:
    """Refuse a mean cost below which no thresholds can stay."""
    if not budget >= costs[0]:
        raise ValueError(
            f'the budget must be at least the cost of the first exit, '
            f'{costs[0]:.6g} (that of the last is {costs[-1]:.6g}), got '
            f'{budget:.6g}')
