# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Residual networks that skip blocks image by image: ConvNet-AIG.

Source: written from Veit and Belongie, ECCV 2018 (arXiv 1711.11503). In front
of each residual block a gate decides from the mean of the map whether the
block is run. In training it draws with Gumbel noise and passes the gradient
straight through; a loss holds the share of a batch that runs a block to a
target.
"""
from typing import Any, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..feature_branch import FeatureBranch
from .skipping import SkippingTrunk

__all__ = ['BlockGate', 'ConvAIG']

_HIDDEN = 16
# At first a gate is rather open, so that all blocks learn.
_FIRST_LOGITS = (0.5, 2.)


class BlockGate(nn.Module):
    """Two logits (B, 2) of a map: to skip a block, and to run it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        last = nn.Linear(_HIDDEN, 2)
        nn.init.normal_(last.weight, std=1e-2)
        last.bias.data.copy_(torch.tensor(_FIRST_LOGITS))
        self.layers = nn.Sequential(
            nn.Linear(channels, _HIDDEN, bias=False), nn.BatchNorm1d(_HIDDEN),
            nn.ReLU(inplace=True), last)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 2)."""
        return self.layers(x.mean((2, 3)))


class ConvAIG(SkippingTrunk):
    """A ResNet with a gate in front of each block, and one exit.

    Args:
        branch (FeatureBranch): A ResNet of torchvision's blocks.
        target_rate (float): Share of a batch that is to run each block, in
            (0, 1]. Defaults to 0.6.

    Raises:
        ValueError: If the rate is out of its range, or a stage holds other
            blocks.
    """

    def __init__(self,
                 branch: FeatureBranch,
                 target_rate: float = 0.6) -> None:
        if not 0 < target_rate <= 1:
            raise ValueError(f'target_rate must be above 0 and at most 1, got '
                             f'{target_rate!r}')
        super().__init__(branch, lambda number, channels: BlockGate(channels))
        self.target_rate = target_rate

    def decide(self, gate: nn.Module, x: Tensor,
               memory: Any) -> Tuple[Tensor, Any]:
        """Draw in training, take the larger logit otherwise."""
        logits = gate(x)
        if self.training:
            return F.gumbel_softmax(logits, hard=True)[:, 1], None
        return (logits[:, 1] > logits[:, 0]).to(x.dtype), None

    def rate_loss(self) -> Tensor:
        """How far the shares of the last batch in training that ran each
        block are from the target: the mean of the squares."""
        return (torch.stack(self.rates) - self.target_rate).square().mean()
