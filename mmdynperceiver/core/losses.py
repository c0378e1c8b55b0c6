# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Loss weights over the exits, and self-distillation from the last one."""
from dataclasses import dataclass
from typing import Callable, Dict, Optional, Sequence, Tuple

import torch.nn.functional as F
from torch import Tensor

__all__ = ['LossWeights', 'exit_losses', 'self_distillation']


@dataclass(frozen=True)
class LossWeights:
    """How much each exit's classification and distillation loss counts.

    Args:
        ce (tuple[float]): Weight of each exit's classification loss.
            Defaults to (0.5, 0.5, 1, 1), the published recipe.
        distill (tuple[float]): Weight of each exit's distillation loss, for
            all exits but the last, which teaches. Defaults to (0.5, 0.5,
            0.5), the published recipe; all 0 switches distillation off.
        temperature (float): Softens both distributions; the loss is scaled
            by its square. Defaults to 1.

    Raises:
        ValueError: If a count does not fit or a number is out of range.
    """

    ce: Tuple[float, ...] = (0.5, 0.5, 1., 1.)
    distill: Tuple[float, ...] = (0.5, 0.5, 0.5)
    temperature: float = 1.

    def __post_init__(self) -> None:
        """Check the numbers."""
        if len(self.distill) != len(self.ce) - 1:
            raise ValueError(
                f'{len(self.ce)} exits need {len(self.ce) - 1} distillation '
                f'weights (the last exit teaches), got {self.distill}')
        if not all(weight >= 0 for weight in (*self.ce, *self.distill)):
            raise ValueError(f'loss weights must be at least 0, got ce='
                             f'{self.ce}, distill={self.distill}')
        if not self.temperature > 0:
            raise ValueError(
                f'temperature must be positive, got {self.temperature!r}')

    @classmethod
    def recipe(cls, num_exits: int = 4) -> 'LossWeights':
        """The published recipe; with other numbers of exits than four every
        exit but the last counts half in both losses."""
        if num_exits == 4:
            return cls()
        early = (0.5, ) * (num_exits - 1)
        return cls(ce=early + (1., ), distill=early)

    @classmethod
    def paper(cls, alpha: float = 0.5, num_exits: int = 4) -> 'LossWeights':
        """Weights of the paper's Eq. 3 (arXiv 2306.11248).

        ``alpha * CE_k + (1 - alpha) * KL_k`` for every exit but the last, plus
        the last exit's cross-entropy; ``alpha`` is in [0, 1].
        """
        if not 0 <= alpha <= 1:
            raise ValueError(f'alpha must be in [0, 1], got {alpha!r}')
        early = num_exits - 1
        return cls(
            ce=(alpha, ) * early + (1., ), distill=(1 - alpha, ) * early)


def self_distillation(all_logits: Sequence[Tensor],
                      temperature: float = 1.) -> Tuple[Tensor, ...]:
    """KL divergence from the last exit to each earlier one, of logits (B, K),
    averaged over the batch. The last ones get no gradient from here."""
    teacher = F.log_softmax(all_logits[-1].detach().float() / temperature, -1)
    return tuple(
        F.kl_div(
            F.log_softmax(logits.float() / temperature, -1),
            teacher,
            reduction='batchmean',
            log_target=True) * temperature**2 for logits in all_logits[:-1])


def exit_losses(all_logits: Sequence[Tensor],
                target: Tensor,
                criterion: Callable[[Tensor, Tensor], Tensor],
                weights: LossWeights,
                given: Optional[Sequence[Tensor]] = None) -> Dict[str, Tensor]:
    """Weighted losses of all exits, in single precision.

    Args:
        all_logits (Sequence[Tensor]): Logits (B, K), shallow to deep.
        target (Tensor): Classes (B,), or soft targets (B, K).
        criterion (Callable): Classification loss of logits and targets.
        weights (LossWeights): How much each loss counts.
        given (Sequence[Tensor], optional): The classification loss of each
            exit, where it is known already. Defaults to None.

    Returns:
        dict[str, Tensor]: ``loss_exit0``, ``loss_exit1``, ... and, where
        they have a weight, ``loss_distill0``, ...; for hard targets also the
        accuracies ``acc_exit0``, ... in percent.
    """
    all_logits = [logits.float() for logits in all_logits]
    if given is None:
        given = [criterion(logits, target) for logits in all_logits]
    losses: Dict[str, Tensor] = {}
    for index, (loss, weight) in enumerate(zip(given, weights.ce)):
        # Also with the weight 0: an exit without a place in the graph would
        # make distributed training wait for its gradients.
        losses[f'loss_exit{index}'] = weight * loss
    if any(weights.distill):
        divergences = self_distillation(all_logits, weights.temperature)
        for index, weight in enumerate(weights.distill):
            if weight:
                losses[f'loss_distill{index}'] = weight * divergences[index]
    if target.ndim == 1:
        for index, logits in enumerate(all_logits):
            right = logits.argmax(1) == target
            losses[f'acc_exit{index}'] = 100 * right.float().mean()
    return losses
