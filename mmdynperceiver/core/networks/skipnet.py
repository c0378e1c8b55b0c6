# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Residual networks whose gates learn to skip in two steps: SkipNet.

Source: written from Wang et al., ECCV 2018 (arXiv 1711.09485), with the
details that it leaves open as in the authors' code. Gates are soft at first:
they weigh block and shortcut. Then they are hard, 0 or 1, with the gradient of
the soft ones, and running a block has a price. The paper goes on with
reinforcement learning from there, which is not in here.
"""
from typing import Any, Optional, Tuple

import torch
from torch import Tensor, nn

from ..feature_branch import FeatureBranch
from .layers import conv_unit
from .skipping import GatedBlock, SkippingTrunk

__all__ = ['GATES', 'SkipNet']

GATES = ('rnn', 'ff1', 'ff2')
# Of what the recurrent gate sees, and of its state.
_EMBEDDED = _HIDDEN = 10


class _Pooled(nn.Module):
    """The mean of a map, (B, C, H, W) -> (B, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def _make_gate(kind: str, channels: int) -> nn.Module:
    """What a gate of its own computes of a map: two logits (B, 2), to skip
    and to run; or what the one recurrent gate of all blocks reads (B, 10)."""
    if kind == 'rnn':
        return nn.Sequential(_Pooled(), nn.Linear(channels, _EMBEDDED))
    convs = [conv_unit(channels, channels, stride=2)]
    if kind == 'ff1':
        # A map of one pixel stays one.
        convs = [
            nn.Sequential(nn.MaxPool2d(2, ceil_mode=True)),
            conv_unit(channels, channels), *convs
        ]
    return nn.Sequential(*convs, _Pooled(), nn.Linear(channels, 2))


class _RecurrentGate(nn.Module):
    """One gate for all blocks, which remembers those before."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(_EMBEDDED, _HIDDEN)
        self.last = nn.Linear(_HIDDEN, 1)

    def forward(self, seen: Tensor, memory: Any) -> Tuple[Tensor, Any]:
        """(B, 10) and a state -> how likely to run (B,), and the state."""
        memory = self.cell(seen, memory)
        return self.last(memory[0]).sigmoid()[:, 0], memory


class _WeighedBlock(GatedBlock):
    """A block that is weighed against its shortcut."""

    def skipped(self, shortcut: Tensor) -> Tensor:
        """The shortcut as it is."""
        return shortcut

    def mixed(self, shortcut: Tensor, added: Tensor, ran: Tensor) -> Tensor:
        """Both, by the gate."""
        return ran * (shortcut + added).relu() + (1 - ran) * shortcut


class SkipNet(SkippingTrunk):
    """A ResNet with a gate in front of each block but the first.

    Args:
        branch (FeatureBranch): A ResNet of torchvision's blocks.
        gate (str): 'rnn', one recurrent gate which reads the mean of each
            map; or for each block its own of convolutions, 'ff1' with two
            of them, 'ff2' with one, for deep networks. Defaults to 'rnn'.

    Attributes:
        soft (bool): Whether gates are soft in training, at first False.

    Raises:
        ValueError: If there is no such gate, or a stage holds other blocks.

    Example:
        >>> from mmdynperceiver.core import build_feature_branch
        >>> arch = dict(block='basic', depths=(1, 1, 1, 1))
        >>> trunk = SkipNet(build_feature_branch(arch, 0.25, 0.)).eval()
        >>> state, _ = trunk.segment(0, trunk.initial_state(
        ...     torch.rand(2, 3, 64, 64)))
        >>> tuple(state.ran.shape)
        (2, 4)
    """

    block_type = _WeighedBlock

    def __init__(self, branch: FeatureBranch, gate: str = 'rnn') -> None:
        if gate not in GATES:
            raise ValueError(f'gate must be one of {", ".join(GATES)}, got '
                             f'{gate!r}')
        super().__init__(
            branch, lambda number, channels: _make_gate(gate, channels)
            if number else None)
        self.control: Optional[nn.Module] = None
        if gate == 'rnn':
            self.control = _RecurrentGate()
        self.soft = False

    def decide(self, gate: nn.Module, x: Tensor,
               memory: Any) -> Tuple[Tensor, Any]:
        """Run a block where that is the more likely."""
        found = gate(x)
        if self.control is None:
            likely = found.softmax(1)[:, 1]
        else:
            likely, memory = self.control(found, memory)
        if self.training and self.soft:
            return likely, memory
        hard = (likely > 0.5).to(x.dtype)
        if self.training:
            # The value of the hard gate, the gradient of the soft one.
            hard = hard - likely.detach() + likely
        return hard, memory

    def rate_loss(self) -> Tensor:
        """The mean share of the last batch in training that ran a block, 0
        while gates are soft."""
        return torch.stack(self.rates).mean() * (not self.soft)
