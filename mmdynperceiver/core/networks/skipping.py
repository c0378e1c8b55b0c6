# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Residual networks that skip blocks image by image."""
from typing import (Any, Callable, Iterator, List, NamedTuple, Optional,
                    Sequence, Tuple, Type)

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from ..complexity import count_macs
from ..feature_branch import FeatureBranch
from ..segments import SegmentedTrunk
from .layers import pooled

__all__ = ['GatedBlock', 'SkipState', 'SkippingTrunk']


class SkipState(NamedTuple):
    """The map x (B, C, H, W), the images at first, and which blocks each
    image ran (B, number of blocks), behind the last one."""

    x: Tensor
    ran: Optional[Tensor] = None


class GatedBlock(nn.Module):
    """A residual block of torchvision behind a gate.

    The shortcut is always run; where it changes the size of the map, the
    block that is skipped leaves its projection.

    Args:
        block (BasicBlock | Bottleneck): The block.
        gate (nn.Module, optional): What decides; None always runs the block.
    """

    def __init__(self, block: Any, gate: Optional[nn.Module]) -> None:
        super().__init__()
        self.block = block
        self.gate = gate

    def residual(self, x: Tensor) -> Tensor:
        """What the block adds."""
        block, last = self.block, isinstance(self.block, Bottleneck) + 2
        for k in range(1, last + 1):
            x = getattr(block, f'bn{k}')(getattr(block, f'conv{k}')(x))
            if k < last:
                x = block.relu(x)
        return x

    def skipped(self, shortcut: Tensor) -> Tensor:
        """The map behind a block that is skipped."""
        return F.relu(shortcut)

    def mixed(self, shortcut: Tensor, added: Tensor, ran: Tensor) -> Tensor:
        """The map in training, of how far each image ran the block (B, 1, 1,
        1)."""
        return F.relu(shortcut + ran * added)

    def forward(self, x: Tensor, ran: Tensor) -> Tensor:
        """(B, C, H, W) -> the map behind; ``ran`` (B,) says who runs the
        block, 0 or 1, in training also between and with a gradient."""
        shortcut = x
        if self.block.downsample is not None:
            shortcut = self.block.downsample(x)
        if self.training:
            return self.mixed(shortcut, self.residual(x), ran[:, None, None,
                                                              None])
        if x.is_meta:  # MACs are counted: those of all blocks
            return F.relu(shortcut + self.residual(x))
        rows = ran.nonzero().squeeze(1)
        if len(rows) == len(x):
            return F.relu(shortcut + self.residual(x))
        out = self.skipped(shortcut)
        if not len(rows):
            return out
        added = self.residual(x.index_select(0, rows))
        return out.index_copy(0, rows,
                              F.relu(shortcut.index_select(0, rows) + added))


class SkippingTrunk(SegmentedTrunk):
    """A ResNet with a gate in front of its blocks, and one exit.

    In eval mode an image that skips a block is not computed in it: the others
    run it as a smaller batch. A subclass decides.

    Args:
        branch (FeatureBranch): A ResNet of torchvision's blocks.
        make_gate (Callable): Makes the gate of the map's channels, in front
            of a block of a number; or None, where it is always run.

    Attributes:
        block_type (type): Of the blocks.
        rates (list[Tensor]): Share of the batch that ran last in training
            which ran each block that has a gate.

    Raises:
        ValueError: If a stage holds other blocks.
    """

    state_type = SkipState
    decides_inside = True
    block_type: Type[GatedBlock] = GatedBlock

    def __init__(self, branch: FeatureBranch,
                 make_gate: Callable[[int, int], Optional[nn.Module]]) -> None:
        super().__init__('x', [(branch.channels[-1], )])
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
                gate = make_gate(len(blocks), width)
                blocks.append(self.block_type(block, gate))
                width = channels
        self.blocks = nn.ModuleList(blocks)
        self.rates: List[Tensor] = []

    def train(self, mode: bool = True) -> 'SkippingTrunk':
        """Set the mode, and forget the last batch."""
        self.rates = []
        return super().train(mode)

    def decide(self, gate: nn.Module, x: Tensor,
               memory: Any) -> Tuple[Tensor, Any]:
        """Who runs a block (B,), of the map in front of it and of what this
        returned at the gate before, None at the first: 0 or 1, in training
        also between and with a gradient. And what to remember."""
        raise NotImplementedError

    def rate_loss(self) -> Tensor:
        """What is to be small of the last batch in training."""
        raise NotImplementedError

    def run_segment(self, index: int,
                    state: SkipState) -> Tuple[SkipState, Tuple[Tensor, ...]]:
        """Run the network."""
        x, ran, memory = self.stem(state.x), [], None
        block: Any
        for block in self.blocks:
            if block.gate is None:
                runs = x.new_ones(len(x))
            else:
                runs, memory = self.decide(block.gate, x, memory)
            x = block(x, runs)
            ran.append(runs)
        self.rates = [
            runs.mean() for block, runs in zip(self.blocks, ran)
            if self.training and block.gate is not None
        ]
        return SkipState(x, torch.stack(ran, 1)), pooled(x)

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
        x = block(x, x.new_ones(len(x)))
