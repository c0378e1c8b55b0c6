# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Training losses of samples weighted exit by exit, by a network that learns
which weights help where samples leave early.

Learning to Weight Samples for Dynamic Early-exiting Networks (Han et al.,
ECCV 2022, arXiv 2209.08310).
"""
from typing import Callable, Dict, List, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .early_exit import average_groups
from .exits import Exits

__all__ = ['SampleWeights']

# Losses (B,) of logits (B, K) and targets.
SampleLosses = Callable[[Tensor, Tensor], Tensor]


class SampleWeights(nn.Module):
    """The weight prediction network, and the loss that it learns from.

    A perceptron of one hidden layer sees the losses of a sample at all exits
    and says how much each counts: 1 on average over the batch, and 1 plus or
    minus twice ``strength`` at most. It learns by looking one step of the
    classifiers ahead, see :meth:`meta_loss`.

    Args:
        num_exits (int): Number K of exits.
        hidden (int): Width of the hidden layer. Defaults to 500.
        strength (float): How far weights may lie from 1, in [0, 1). Defaults
            to 0.3, as published for ImageNet; for CIFAR it is 0.8.
        share_ratio (float): Of the samples that the meta loss is for, exit k
            (from 1) takes a share proportional to this to the power of k.
            Defaults to 0.75.
        step_size (float): Learning rate of the step that is looked ahead.
            Defaults to 0.1.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(self,
                 num_exits: int,
                 hidden: int = 500,
                 strength: float = 0.3,
                 share_ratio: float = 0.75,
                 step_size: float = 0.1) -> None:
        super().__init__()
        if num_exits < 2:
            raise ValueError('sample_weights are for several exits, and this '
                             'network has one: leave them out')
        if not isinstance(hidden, int) or hidden < 1:
            raise ValueError(f'sample_weights.hidden must be a whole number '
                             f'of at least 1, got {hidden!r}')
        if not 0 <= strength < 1:
            raise ValueError(f'sample_weights.strength must be at least 0 and '
                             f'below 1, got {strength!r}')
        for name, value in (('share_ratio', share_ratio), ('step_size',
                                                           step_size)):
            if not value > 0:
                raise ValueError(f'sample_weights.{name} must be above 0, got '
                                 f'{value!r}')
        self.strength = strength
        self.step_size = step_size
        powers = [share_ratio**k for k in range(1, num_exits + 1)]
        self.shares = [power / sum(powers) for power in powers]
        self.layers = nn.Sequential(
            nn.Linear(num_exits, hidden), nn.ReLU(inplace=True),
            nn.Linear(hidden, num_exits), nn.Tanh())

    def forward(self, losses: Tensor) -> Tensor:
        """Weights (B, K) of samples from their losses (B, K), through which
        no gradient goes."""
        found = self.layers(losses.detach())
        return 1 + self.strength * (found - found.mean())

    def meta_loss(self,
                  exits: Exits,
                  vectors: Sequence[Sequence[Tensor]],
                  target: Tensor,
                  losses_of: SampleLosses,
                  exit_weights: Sequence[float],
                  group: int = 1) -> Tensor:
        """What weights that this network predicts for one half of a batch
        lead to on the other half, and the other way round.

        Copies of the classifiers take a step of plain gradient descent on the
        weighted losses of one half. Then the samples of the other half leave
        early, the surest first, and each counts at its exit alone. This value
        has a gradient for this network only.

        Args:
            exits (Exits): The classifiers.
            vectors (Sequence[Sequence[Tensor]]): What they classify, (B *
                group, C).
            target (Tensor): Classes (B,), or scores (B, C).
            losses_of (Callable): Losses (B,) of logits (B, C) and targets.
            exit_weights (Sequence[float]): How much each exit's loss counts.
            group (int): Images of a sample. Defaults to 1.

        Returns:
            Tensor: The mean of both ways; 0 for fewer than four samples.
        """
        half = len(target) // 2
        if half < 2:
            # Still a function of the weights, for distributed training.
            none = torch.zeros(1, len(self.shares), device=target.device)
            return 0 * self(none).sum()
        with torch.autocast(target.device.type, enabled=False):
            features = [[vector.detach().float() for vector in one]
                        for one in vectors]
            ends = slice(0, half), slice(half, 2 * half)
            halves = [([[v[end.start * group:end.stop * group] for v in one]
                        for one in features], target[end]) for end in ends]
            first, second = (self._ahead(exits, *train, *judged, losses_of,
                                         exit_weights, group)
                             for train, judged in (halves, halves[::-1]))
        return (first + second) / 2

    def _ahead(self, exits: Exits, vectors: Sequence[Sequence[Tensor]],
               target: Tensor, others: Sequence[Sequence[Tensor]],
               their_target: Tensor, losses_of: SampleLosses,
               exit_weights: Sequence[float], group: int) -> Tensor:
        """The loss of the others after a step on these."""
        # Norms count in copies of their statistics.
        state: Dict[str, Tensor] = {
            name: buffer.clone()
            for name, buffer in exits.named_buffers()
        }
        weights = {
            name: value.detach().requires_grad_()
            for name, value in exits.named_parameters()
        }

        def run(weights: Dict[str, Tensor],
                vectors: Sequence[Sequence[Tensor]]) -> List[Tensor]:
            logits = functional_call(exits, {**state, **weights}, (vectors, ))
            return [average_groups(one, group).float() for one in logits]

        losses = torch.stack(
            [losses_of(one, target) for one in run(weights, vectors)], 1)
        counts = losses.new_tensor(list(exit_weights))
        total = ((self(losses) * losses).mean(0) * counts).sum()
        slopes = torch.autograd.grad(
            total, list(weights.values()), create_graph=True)
        stepped = {
            name: value.detach() - self.step_size * slope
            for (name, value), slope in zip(weights.items(), slopes)
        }
        return self.leaving_loss(run(stepped, others), their_target, losses_of)

    def leaving_loss(self, all_logits: Sequence[Tensor], target: Tensor,
                     losses_of: SampleLosses) -> Tensor:
        """The sum over the exits of the mean loss of those who leave there,
        the surest of those who are left at each."""
        left = torch.arange(len(target), device=target.device)
        total = all_logits[0].new_zeros(())
        for index, logits in enumerate(all_logits):
            count = int(len(target) * self.shares[index])
            if index < len(all_logits) - 1:
                confidence = logits[left].detach().softmax(1).amax(1)
                order = left[confidence.argsort(descending=True)]
                leaving, left = order[:count], order[count:]
            else:
                leaving = left
            if len(leaving):
                total = total + losses_of(logits[leaving],
                                          target[leaving]).mean()
        return total
