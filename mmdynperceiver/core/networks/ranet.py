# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Resolution adaptive networks, RANet (Yang et al., CVPR 2020).

Sub-networks from a low to a high resolution. The first one sees the coarsest
map alone; each later one starts from a finer map, and its first blocks read
what the blocks of the sub-network before it made. All exits read maps of the
lowest resolution.
"""
import math
from collections import namedtuple
from typing import Any, Iterator, List, Optional, Sequence, Tuple, Type

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..segments import SegmentedTrunk
from .layers import (check_dense, conv_unit, dense_branch, exit_convs,
                     init_convs, pooled, sequentials, stem_convs)

__all__ = ['KeptMaps', 'RANet']

_MOST_KEPT = 40

# The map x (B, C, H, W) of the sub-network that is run, the images at first;
# then what later ones read: the maps that they start from, and those of the
# blocks of the one that is run. Each has a place of its own.
KeptMaps: Type[Any] = namedtuple(  # type: ignore[misc]
    'KeptMaps', ('x', *(f'kept{k}' for k in range(_MOST_KEPT))))


class _Block(nn.Module):
    """Densely connected layers, which may read those of a block at a lower
    resolution.

    Args:
        width (int): Channels that come in.
        depth (int): Number of layers.
        growth (int): New channels of each.
        bottleneck (int, optional): As of :func:`dense_branch`.
        halves (bool): Whether the last layer halves the resolution.
        reduction (float): Share of the channels that a 1x1 convolution
            leaves at the end; 1 for no such convolution.
        lower (_Block, optional): The block of as many layers that is read.
        fusion (float): Share of the new channels that come from there, and
            of the channels that are added from there at the end.
    """

    def __init__(self, width: int, depth: int, growth: int,
                 bottleneck: Optional[int], halves: bool, reduction: float,
                 lower: Optional['_Block'], fusion: float) -> None:
        super().__init__()
        self.halves, self.bottleneck = halves, bottleneck
        # What comes in, and what each layer leaves: all that came and more.
        self.widths = [width + growth * k for k in range(depth + 1)]
        fused = math.floor(growth * fusion) if lower else 0
        strides = [1] * (depth - 1) + [1 + halves]
        self.keep = nn.ModuleList(
            dense_branch(width, growth - fused, bottleneck, stride)
            for width, stride in zip(self.widths, strides))
        self.up = nn.ModuleList()
        self.below: List[int] = lower.widths if lower else []
        width = self.widths[-1]
        if lower is not None:
            self.up.extend(
                dense_branch(below, fused, lower.bottleneck)
                for below in self.below[:-1])
            added = math.floor(width * fusion)
            self.up.append(conv_unit(self.below[-1], added, 1))
            width += added
        self.out_width = math.floor(reduction * width)
        self.reduce = nn.Identity() if reduction == 1 else conv_unit(
            width, self.out_width, 1)

    @property
    def num_kept(self) -> int:
        """How many maps it leaves to be read."""
        return 1 + self.halves

    def forward(self, x: Tensor,
                lower: Sequence[Tensor]) -> Tuple[Tensor, Tuple[Tensor, ...]]:
        """The map behind the block, and its layers' to be read: that of the
        last, and where it halves the resolution, that of the one before, too.

        As each layer keeps what it reads as its first channels, these hold
        all layers.
        """
        before = x
        for k, keep in enumerate(self.keep):
            new = keep(x)
            parts = [x, new]
            if self.up:
                parts.insert(1, self.up[k](lower[0][:, :self.below[k]]))
            before, x = x, torch.cat([_resized(p, new) for p in parts], 1)
        kept = (before, x) if self.halves else (x, )
        if self.up:
            x = torch.cat([x, _resized(self.up[-1](lower[-1]), x)], 1)
        return self.reduce(x), kept


class RANet(SegmentedTrunk):
    """Sub-networks of rising resolutions, an exit behind each block that
    reads no sub-network before its own.

    Source: written from the paper (arXiv 2003.07326), with the details that
    it leaves open as in the authors' settings for CIFAR and ImageNet.

    Args:
        scales (Sequence[int]): For each sub-network its resolution: 1 for the
            lowest, and each as the one before or one more, which has twice
            the pixels each way. Defaults to (1, 2, 3, 4).
        num_blocks (int): Blocks of the first sub-network. Defaults to 2.
        more_blocks (int): By how many each has more than the one before,
            which is the number of its exits. Defaults to 2.
        step (int): Layers of a block; see ``step_mode``. Defaults to 8.
        step_mode (str): 'even', or 'linear' where the second block has twice
            as many, the third three times, and so on. Defaults to 'even'.
        stem_channels (int): Channels where the factor is 1. Defaults to 32.
        growth (int): New channels of a layer there. Defaults to 16.
        growth_factors (Sequence[int]): For each sub-network, by which both
            are larger. Defaults to (4, 2, 2, 1).
        bottleneck_factors (Sequence[int], optional): For each, how many times
            as wide as what it makes a 1x1 convolution before a layer is. None
            has no such convolutions. Defaults to (4, 2, 2, 1).
        fusion (float): Share of the channels from the sub-network before, in
            (0, 1). Defaults to 0.25.
        reduction (float): Share of the channels that is left behind the
            blocks that divide a sub-network into as many parts as its scale
            says. Defaults to 0.5.
        stem_stride (int): 4 for large images, 1 for those of CIFAR. Defaults
            to 4.
        exit_width (int, optional): Channels of the convolutions in front of
            a classifier. Defaults to None, as many as the map has.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> trunk = RANet((1, 2), step=2, stem_channels=4, growth=4,
        ...               growth_factors=(2, 1), bottleneck_factors=(2, 1))
        >>> [[v.shape[1] for v in f] for f in trunk(torch.rand(2, 3, 64, 64))]
        [[24], [40], [33], [41]]
    """

    state_type = KeptMaps
    exit_layers = True

    def __init__(self,
                 scales: Sequence[int] = (1, 2, 3, 4),
                 num_blocks: int = 2,
                 more_blocks: int = 2,
                 step: int = 8,
                 step_mode: str = 'even',
                 stem_channels: int = 32,
                 growth: int = 16,
                 growth_factors: Sequence[int] = (4, 2, 2, 1),
                 bottleneck_factors: Optional[Sequence[int]] = (4, 2, 2, 1),
                 fusion: float = 0.25,
                 reduction: float = 0.5,
                 stem_stride: int = 4,
                 exit_width: Optional[int] = None) -> None:
        scales, factors = tuple(scales), tuple(growth_factors)
        check_dense(
            dict(
                num_blocks=num_blocks,
                more_blocks=more_blocks,
                step=step,
                stem_channels=stem_channels,
                growth=growth), step_mode, factors, bottleneck_factors,
            reduction, stem_stride, _MOST_KEPT)
        counts = [num_blocks + more_blocks * k for k in range(len(scales))]
        _check(scales, factors, growth, fusion, counts)
        super().__init__('x' * counts[-1])
        self.scales, self.stem_stride = scales, stem_stride
        self.min_size = stem_stride * 2**(scales[-1] - 1)
        self.fusion, self.reduction = fusion, reduction
        finer = [1 + b - a for a, b in zip(scales, scales[1:])]
        self.stem = stem_convs([stem_channels * f for f in factors[::-1]],
                               finer[::-1], stem_stride)
        self.networks = nn.ModuleList()
        # Of each segment its sub-network, and which blocks of it are run.
        self.segments: List[Tuple[int, range]] = []
        depths = [
            step * (k + 1 if step_mode == 'linear' else 1)
            for k in range(counts[-1])
        ]
        bottlenecks: Any = bottleneck_factors or (None, ) * len(scales)
        for number, factor in enumerate(factors):
            self.networks.append(
                self._make_network(counts[:number + 1], depths,
                                   stem_channels * factor, growth * factor,
                                   bottlenecks[number]))
            fused = counts[number - 1] if number else 0
            self.segments += [(number, range(0 if k == fused else k, k + 1))
                              for k in range(fused, counts[number])]
        self._add_exits(exit_width)
        init_convs(self)

    def _add_exits(self, width: Optional[int]) -> None:
        """The convolutions in front of the classifiers."""
        found = [
            self._blocks(number)[blocks[-1]].out_width
            for number, blocks in self.segments
        ]
        self.exit_channels = tuple((width or one, ) for one in found)
        self.exit_convs = nn.ModuleList(
            exit_convs(one, width or one) for one in found)

    def _make_network(self, counts: Sequence[int], depths: Sequence[int],
                      width: int, growth: int,
                      bottleneck: Optional[int]) -> nn.ModuleList:
        """The blocks of a sub-network; ``counts`` are the numbers of blocks
        of those before and of its own."""
        scale, count = self.scales[len(counts) - 1], counts[-1]
        lower = self._blocks(-1) if len(counts) > 1 else []
        # Down to the lowest resolution where those before ended.
        halves = counts[:-1][len(counts) - scale:]
        reduces = [(k + 1) * count // scale for k in range(scale - 1)]
        blocks = nn.ModuleList()
        for number, depth in enumerate(depths[:count], 1):
            block = _Block(width, depth, growth, bottleneck, number in halves,
                           self.reduction if number in reduces else 1,
                           lower[number - 1] if number <= len(lower) else None,
                           self.fusion)
            blocks.append(block)
            width = block.out_width
        return blocks

    def _blocks(self, number: int) -> Any:
        """The blocks of a sub-network."""
        return self.networks[number]

    def _place(self, number: int, block: int) -> int:
        """Where in the state the maps of a block are kept."""
        blocks = self._blocks(number)[:block]
        return len(self.scales) + sum(one.num_kept for one in blocks)

    def foldable_parts(self) -> Iterator[Tuple[nn.Module, str]]:
        """All convolutions."""
        return sequentials(self)

    def run_segment(self, index: int,
                    state: Any) -> Tuple[Any, Tuple[Tensor, ...]]:
        """Run blocks up to the next exit, and its convolutions: in a new
        sub-network those that read the one before, too."""
        number, blocks = self.segments[index]
        maps: List[Any] = list(state)
        if index == 0:
            x = state.x
            for k, conv in enumerate(self.stem):
                x = conv(x)
                maps[len(self.stem) - 1 - k] = x
        lower: List[Sequence[Tensor]] = []
        if number and blocks.start == 0:
            for k, block in enumerate(self._blocks(number - 1)):
                place = self._place(number - 1, k)
                lower.append(maps[place:place + block.num_kept])
            start, *later = maps[number:len(self.scales)]
            maps = [start] + [None] * _MOST_KEPT
            maps[number + 1:len(self.scales)] = later
        x = maps[0]
        for k in blocks:
            below = lower[k] if k < len(lower) else ()
            x, kept = self._blocks(number)[k](x, below)
            if number < len(self.scales) - 1:
                place = self._place(number, k)
                maps[place:place + len(kept)] = kept
        maps[0] = x
        return KeptMaps(*maps), pooled(self.exit_convs[index](self.to_exit(
            index, x)))


def _resized(x: Tensor, like: Tensor) -> Tensor:
    """A map at the size of another one, between the nearest pixels."""
    # Numbers, in a trace too.
    size = [int(length) for length in like.shape[2:]]
    if [int(length) for length in x.shape[2:]] == size:
        return x
    return F.interpolate(x, size, mode='bilinear', align_corners=True)


def _check(scales: Tuple[int, ...], factors: Tuple[int, ...], growth: int,
           fusion: float, counts: Sequence[int]) -> None:
    """Refuse what makes no network, beyond :func:`check_dense`."""
    if scales[:1] != (1, ) or any(other - one not in (0, 1)
                                  for one, other in zip(scales, scales[1:])):
        raise ValueError(f'scales must begin with 1, and each be as the one '
                         f'before or one more, got {scales!r}')
    if len(factors) != len(scales):
        raise ValueError(f'growth_factors must hold one number for each of '
                         f'the {len(scales)} scales, got {factors!r}')
    if not 0 < fusion < 1 or any(growth * factor * fusion < 1
                                 for factor in factors[1:]):
        raise ValueError(f'fusion must be below 1 and leave a channel of '
                         f'growth times each of growth_factors, got '
                         f'fusion={fusion!r}, growth={growth!r} and '
                         f'{factors!r}')
    # See KeptMaps.
    needed = len(scales) - 1 + max(
        (count + scale - 1 for count, scale in zip(counts, scales[:-1])),
        default=0)
    if needed > _MOST_KEPT:
        raise ValueError(f'num_blocks, more_blocks and scales make '
                         f'sub-networks whose maps need {needed} places in '
                         f'the state, there are {_MOST_KEPT}: take fewer')
