# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""How sure exits are, what their answers are worth, and what these cost.

All that calibration knows of a task: an adapter gives it, the solvers and
policies work on nothing else.
"""
import math
from dataclasses import dataclass, replace
from typing import Any, List, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor

from ..core import fixed_exit_thresholds
from ..core.complexity import expected_cost
from ..core.criteria import Temperature, confidences
from ..core.ensembles import ensemble_logits
from ..core.policy import check_thresholds, leave_at

__all__ = ['ExitOutcomes', 'Outcome', 'check_samples', 'check_shares']


class Outcome(NamedTuple):
    """What a policy brings on average."""

    utility: float  # of an answer; of classes the accuracy, in [0, 1]
    shares: Tuple[float, ...]  # of samples, that leave at each exit
    cost: float  # of one sample, in the unit of the costs of the exits


@dataclass(frozen=True, eq=False)
class ExitOutcomes:
    """What each exit brings on held-out samples.

    Args:
        confidence (Tensor): How sure each exit is (num_exits, N).
        utility (Tensor): What its answer is worth (num_exits, N), larger for
            better: of classes whether it is right, boolean; of a detector
            minus the detection loss.
        cost (Sequence[float]): Mean cost of one sample up to each exit.

    Raises:
        ValueError: If the costs are too few or too many, or one is negative,
            not finite, or below the one before.
    """

    confidence: Tensor
    utility: Tensor
    cost: Sequence[float]

    def __post_init__(self) -> None:
        cost = tuple(map(float, self.cost))
        if len(cost) != self.num_exits or not all(map(math.isfinite, cost)) \
                or cost[0] < 0 or any(a > b for a, b in zip(cost, cost[1:])):
            raise ValueError(f'costs must be {self.num_exits} finite numbers '
                             f'that do not fall with depth, got {list(cost)}')
        object.__setattr__(self, 'cost', cost)

    @classmethod
    def of(cls,
           all_logits: Sequence[Tensor],
           labels: Tensor,
           cost: Sequence[float],
           criterion: str = 'max_prob',
           temperature: Temperature = None,
           ensemble: Any = None,
           stopping: Any = None) -> 'ExitOutcomes':
        """Judge classes: logits (N, K) of each exit by labels (N,).

        Both may be arrays; what else there is as for
        :class:`~mmdynperceiver.core.ExitPolicy`.

        Raises:
            ValueError: If the shapes do not fit, there are no samples or
                all of one class, or the logits hold NaN.
        """
        labels = torch.as_tensor(labels)
        all_logits = [torch.as_tensor(logits) for logits in all_logits]
        check_samples(all_logits, labels)
        answers = ensemble_logits(all_logits, ensemble)
        right = torch.stack([x.argmax(-1) == labels for x in answers])
        return cls(
            confidences(answers, criterion, temperature, stopping), right,
            cost)

    @property
    def measure(self) -> str:
        """What the mean utility is: 'accuracy' of classes, or 'utility'."""
        return 'accuracy' if self.utility.dtype == torch.bool else 'utility'

    @property
    def num_exits(self) -> int:
        """Number of exits."""
        return len(self.confidence)

    @property
    def num_samples(self) -> int:
        """Number N of samples."""
        return self.confidence.shape[1]

    def with_cost(self, cost: Sequence[float]) -> 'ExitOutcomes':
        """The same in another unit, such as milliseconds."""
        return replace(self, cost=cost)

    def select(self, samples: Tensor) -> 'ExitOutcomes':
        """Those of some samples, by their indices (N',)."""
        return replace(
            self,
            confidence=self.confidence[:, samples],
            utility=self.utility[:, samples])

    def evaluate(self, thresholds: Sequence[float]) -> Outcome:
        """Replay thresholds, one for each exit but the last.

        Raises:
            ValueError: If they do not fit.
        """
        thresholds = check_thresholds(thresholds, self.num_exits)
        exit_index = leave_at(self.confidence, thresholds)
        counts = exit_index.bincount(minlength=self.num_exits).tolist()
        total = float(self.utility.gather(0, exit_index[None]).double().sum())
        return Outcome(total / self.num_samples,
                       tuple(count / self.num_samples for count in counts),
                       expected_cost(counts, self.cost))

    def at_random(self, shares: Sequence[float]) -> Outcome:
        """What leaving by chance would bring, with the share of each exit.

        A confidence is worth what it gains over this.

        Raises:
            ValueError: If the shares do not fit.
        """
        shares = check_shares(shares, self.num_exits)
        utilities = self.utility.double().mean(1).tolist()
        return Outcome(
            expected_cost(shares, utilities), shares,
            expected_cost(shares, self.cost))

    def static(self) -> List[Outcome]:
        """What it brings to leave always at the same exit, for each."""
        return [
            self.evaluate(fixed_exit_thresholds(k, self.num_exits))
            for k in range(self.num_exits)
        ]


def check_samples(all_logits: Sequence[Tensor], labels: Tensor) -> None:
    """Refuse held-out samples that nothing can be learned from."""
    if len(all_logits) < 2:
        raise ValueError(f'calibration needs the logits of at least two '
                         f'exits, got {len(all_logits)}')
    shapes = [tuple(logits.shape) for logits in all_logits]
    if len(set(shapes)) > 1 or len(shapes[0]) != 2 or \
            tuple(labels.shape) != shapes[0][:1]:
        raise ValueError(
            f'held-out logits must be (N, K) at each exit and labels (N,), '
            f'got {shapes} and {tuple(labels.shape)}')
    num_samples, num_classes = shapes[0]
    if num_samples == 0:
        raise ValueError('calibration needs held-out samples, got 0 samples')
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise ValueError(f'labels must be 0 to {num_classes - 1}, as the '
                         f'logits are, got {low} to {high}')
    if low == high:
        raise ValueError(
            f'all {num_samples} held-out samples are of class {low}; '
            f'calibration needs samples as mixed as those to come')
    for index, logits in enumerate(all_logits):
        if not (logits < math.inf).all():
            raise ValueError(f'held-out logits must be numbers, got NaN or '
                             f'infinity at exit {index}; check the checkpoint')


def check_shares(shares: Sequence[float], num_exits: int) -> Tuple[float, ...]:
    """Refuse shares that are not one for each exit or do not sum to 1."""
    values = tuple(map(float, shares))
    if len(values) != num_exits or not min(values) >= 0 or \
            abs(sum(values) - 1) > 1e-6:
        raise ValueError(f'shares must be {num_exits} numbers of at least 0 '
                         f'that sum to 1, got {values}')
    return values
