# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The exit scheduler of EENet (arXiv 2301.07099), to compare policies with.

The score of an exit is a sigmoid of a weighted sum of the probabilities of all
classes, the largest of them, 1 - entropy, the share of the exits so far that
vote for the class with most votes, and the scores of the exits before. It
learns to be the probability that the exit is right, above all on the samples
that leave there. Which part these are a second network learns, for training
only: its shares follow the scores and keep the budget. From the first exit on
so many of the samples that are left leave, those with the best scores, and
the least of these scores is the threshold.

No policy of the core or of deployment reads single classes or earlier scores,
so this stays a comparison. What is learned is plain numbers, of K classes
K + 3 + k at exit k.
"""
import math
from typing import List, NamedTuple, Sequence

import torch
from torch import Tensor, nn

from mmdynperceiver.calibration.outcomes import ExitOutcomes
from mmdynperceiver.core.policy import NEVER

__all__ = ['Scheduler', 'fit', 'inputs_of', 'outcomes_of', 'quotas', 'scores']

STEPS, RATE, HIDDEN = 200, .03, 8
# How much the budget counts in the loss, and the powers of the scores that
# shares follow: of these the best on the held-out samples is taken.
BUDGET_WEIGHT = 10.
POWERS = (1., 10.)


class Scheduler(NamedTuple):
    """What is learned: weights of each exit's score, and thresholds of each
    exit but the last."""

    weights: List[List[float]]
    thresholds: List[float]


def inputs_of(logits: Sequence[Tensor]) -> List[Tensor]:
    """What the score of each exit reads (N, K + 3), but earlier scores."""
    found, votes = [], 0.
    for count, part in enumerate(logits, 1):
        probabilities = part.float().softmax(1)
        number = probabilities.shape[1]
        votes = votes + nn.functional.one_hot(part.argmax(1), number)
        entropy = torch.special.entr(probabilities).sum(1) / math.log(number)
        most = votes.amax(1) / count  # type: ignore[attr-defined]
        found.append(
            torch.cat([
                probabilities,
                torch.stack([probabilities.amax(1), 1 - entropy, most], 1)
            ], 1))
    return found


def scores(weights: Sequence[Tensor], inputs: Sequence[Tensor]) -> Tensor:
    """Scores (num_exits, N), from what :func:`inputs_of` gives."""
    found: List[Tensor] = []
    for row, part in zip(weights, inputs):
        earlier = [score.detach()[:, None] for score in found]
        found.append((torch.cat([part, *earlier], 1) @ row).sigmoid())
    return torch.stack(found)


def quotas(all_scores: Tensor, shares: Sequence[float]) -> List[float]:
    """Thresholds at which about these shares of the samples leave, from
    scores (num_exits, N): at each exit the best of those that are left."""
    left = torch.ones_like(all_scores[0], dtype=torch.bool)
    thresholds = []
    for row, share in zip(all_scores[:-1], shares):
        count = min(int(share * len(row)), int(left.sum()))
        if not count:
            thresholds.append(NEVER)
            continue
        least = row[left].sort(descending=True).values[count - 1]
        left &= row < least
        thresholds.append(float(least))
    return thresholds


def outcomes_of(found: Scheduler, logits: Sequence[Tensor], labels: Tensor,
                cost: Sequence[float]) -> ExitOutcomes:
    """Judge exits by these scores."""
    confidence = scores([torch.tensor(row) for row in found.weights],
                        inputs_of(logits))
    right = torch.stack([part.argmax(1) == labels for part in logits])
    return ExitOutcomes(confidence, right, cost)


def fit(logits: Sequence[Tensor], labels: Tensor, cost: Sequence[float],
        budget: float) -> Scheduler:
    """Learn to leave within a mean cost from logits (N, K) of each exit."""

    def worth(found: Scheduler) -> Sequence[float]:
        brought = outcomes_of(found, logits, labels,
                              cost).evaluate(found.thresholds)
        return brought.cost <= 1.01 * budget, brought.utility

    return max((_fit(logits, labels, cost, budget, power) for power in POWERS),
               key=worth)


def _fit(logits: Sequence[Tensor], labels: Tensor, cost: Sequence[float],
         budget: float, power: float) -> Scheduler:
    """The same, where shares follow this power of the scores."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        inputs = inputs_of(logits)
        width = inputs[0].shape[1]
        weights = nn.ParameterList(
            torch.zeros(width + k) for k in range(len(logits)))
        shares_of = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width, HIDDEN), nn.Sigmoid(), nn.Linear(HIDDEN, 1))
            for _ in logits)
    right = torch.stack([part.argmax(1) == labels for part in logits]).float()
    costs = torch.tensor([c / budget for c in cost])
    optimizer = torch.optim.Adam([*weights, *shares_of.parameters()], RATE)
    for _ in range(STEPS):
        found = scores(list(weights), inputs)
        # [num_exits, N]
        shares = torch.cat([f(x) for f, x in zip(shares_of, inputs)],
                           1).softmax(1).T
        counts = (shares / shares.sum(1, True)).detach()
        loss = nn.functional.binary_cross_entropy(
            found, right, counts, reduction='sum') / len(logits)
        wanted = found.detach()**power
        wanted = wanted / wanted.sum(0)
        loss = loss + (wanted * (wanted.log() - shares.log())).sum(0).mean()
        over = (costs @ shares).mean() - 1
        loss = loss + BUDGET_WEIGHT * over.abs()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Scheduler([row.tolist() for row in weights],
                     quotas(found.detach(),
                            shares.mean(1).tolist()))
