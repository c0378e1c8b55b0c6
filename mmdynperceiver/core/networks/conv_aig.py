# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Residual networks that skip blocks image by image: ConvNet-AIG.

Source: written from Veit and Belongie, ECCV 2018 (arXiv 1711.11503). In front
of each residual block a gate decides from the mean of the map whether the
block is run. In training it draws with Gumbel noise and passes the gradient
straight through; a loss holds the share of a batch that runs a block to a
target.
"""
from typing import Any, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from ..complexity import count_macs
from ..feature_branch import FeatureBranch
from ..segments import SegmentedTrunk
from .layers import pooled

__all__ = ['BlockGate', 'ConvAIG', 'GatedBlock', 'SkipState']

_HIDDEN = 16
# At first a gate is rather open, so that all blocks learn.
_FIRST_LOGITS = (0.5, 2.)


class SkipState(NamedTuple):
    """The map x (B, C, H, W), the images at first, and which blocks each
    image ran (B, number of blocks), behind the last one."""

    x: Tensor
    ran: Optional[Tensor] = None


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


class GatedBlock(nn.Module):
    """A residual block of torchvision behind a gate.

    The shortcut is always run; where it changes the size of the map, the
    block that is skipped leaves its projection.

    Args:
        block (BasicBlock | Bottleneck): The block.
        channels (int): Of the map that it takes.
    """

    def __init__(self, block: Any, channels: int) -> None:
        super().__init__()
        self.block = block
        self.gate = BlockGate(channels)

    def residual(self, x: Tensor) -> Tensor:
        """What the block adds."""
        block, last = self.block, isinstance(self.block, Bottleneck) + 2
        for k in range(1, last + 1):
            x = getattr(block, f'bn{k}')(getattr(block, f'conv{k}')(x))
            if k < last:
                x = block.relu(x)
        return x

    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        """(B, C, H, W) -> the map behind, and who ran the block (B,), 0 or 1,
        in training with a gradient."""
        shortcut = x
        if self.block.downsample is not None:
            shortcut = self.block.downsample(x)
        logits = self.gate(x)
        if self.training:
            ran = F.gumbel_softmax(logits, hard=True)[:, 1]
            out = shortcut + ran[:, None, None, None] * self.residual(x)
            return F.relu(out), ran
        runs = logits[:, 1] > logits[:, 0]
        if x.is_meta:  # MACs are counted: those of all blocks
            return F.relu(shortcut + self.residual(x)), runs.to(x.dtype)
        rows = runs.nonzero().squeeze(1)
        if len(rows) == len(x):
            shortcut = shortcut + self.residual(x)
        elif len(rows):
            added = self.residual(x.index_select(0, rows))
            shortcut = shortcut.index_add(0, rows, added)
        return F.relu(shortcut), runs.to(x.dtype)


class ConvAIG(SegmentedTrunk):
    """A ResNet with a gate in front of each block, and one exit.

    In eval mode an image that skips a block is not computed in it: the others
    run it as a smaller batch.

    Args:
        branch (FeatureBranch): A ResNet of torchvision's blocks.
        target_rate (float): Share of a batch that is to run each block, in
            (0, 1]. Defaults to 0.6.

    Raises:
        ValueError: If the rate is out of its range, or a stage holds other
            blocks.
    """

    state_type = SkipState
    decides_inside = True

    def __init__(self,
                 branch: FeatureBranch,
                 target_rate: float = 0.6) -> None:
        if not 0 < target_rate <= 1:
            raise ValueError(f'target_rate must be above 0 and at most 1, got '
                             f'{target_rate!r}')
        super().__init__('x', [(branch.channels[-1], )])
        self.target_rate = target_rate
        self.min_size, self.stem_stride = max(
            branch.strides), branch.strides[0]
        self.dropout = branch.dropout
        self.stem = branch.stem
        blocks: List[nn.Module] = []
        width = branch.channels[0]
        for stage, channels in zip(branch.stages, branch.channels[1:]):
            for block in stage.children():
                if not isinstance(block, (BasicBlock, Bottleneck)):
                    raise ValueError(
                        f'gates stand in front of residual blocks of '
                        f'torchvision (a ResNet by its name, or block and '
                        f'depths), got {type(block).__name__}')
                blocks.append(GatedBlock(block, width))
                width = channels
        self.blocks = nn.ModuleList(blocks)
        # Of the batch that ran last in training, for the loss.
        self.rates: List[Tensor] = []

    def train(self, mode: bool = True) -> 'ConvAIG':
        """Set the mode, and forget the last batch."""
        self.rates = []
        return super().train(mode)

    def run_segment(self, index: int,
                    state: SkipState) -> Tuple[SkipState, Tuple[Tensor, ...]]:
        """Run the network."""
        x, ran = self.stem(state.x), []
        for block in self.blocks:
            x, runs = block(x)
            ran.append(runs)
        self.rates = [runs.mean() for runs in ran] if self.training else []
        return SkipState(x, torch.stack(ran, 1)), pooled(x)

    def rate_loss(self) -> Tensor:
        """How far the shares of the last batch in training that ran each
        block are from the target: the mean of the squares."""
        return (torch.stack(self.rates) - self.target_rate).square().mean()

    def block_macs(self, input_shape: Sequence[int]) -> Tuple[int, ...]:
        """MACs of each block, without its gate and its shortcut, of an image
        (3, H, W)."""
        counted = count_macs(self, _around_residuals, input_shape)
        return tuple(after - before
                     for before, after in zip(counted[::2], counted[1::2]))


def _around_residuals(trunk: Any, images: Tensor) -> Iterator[None]:
    """Run all blocks; stop before and behind each of them."""
    x = trunk.stem(trunk.initial_state(images).x)
    for block in trunk.blocks:
        yield
        block.residual(x)
        yield
        x, _ = block(x)
