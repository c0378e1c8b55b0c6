# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Multi-scale dense networks, MSDNet (Huang et al., ICLR 2018).

Every layer keeps a coarse map, so that an exit anywhere reads features with a
large view, and connects densely to the layers before it, so that an exit in
front of others does not spoil what these read.
"""
import math
from typing import Any, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from ..segments import SegmentedTrunk
from .layers import (check_dense, conv_unit, dense_branch, exit_convs,
                     init_convs, pooled, sequentials, stem_convs)

__all__ = ['MSDNet', 'ScaleState', 'block_layers']


class ScaleState(NamedTuple):
    """The maps (B, C, H, W) of all scales that a network still has: the
    coarsest (the images at first), and those with 2, 4, ... times as many
    pixels each way."""

    x: Tensor
    finer1: Optional[Tensor] = None
    finer2: Optional[Tensor] = None
    finer3: Optional[Tensor] = None
    finer4: Optional[Tensor] = None


_MOST_SCALES = len(ScaleState._fields)


def block_layers(num_exits: int, base: int, step: int,
                 step_mode: str) -> List[int]:
    """How many layers each block has, an exit behind each of them: ``base``
    in the first, and ``step`` in all others ('even'), or ``step`` times the
    block's number, from 1, and one more ('linear')."""
    if step_mode == 'even':
        return [base] + [step] * (num_exits - 1)
    return [base] + [step * number + 1 for number in range(1, num_exits)]


class _Layer(nn.Module):
    """New channels at each scale, from this map and the next finer one.

    Args:
        width (int): Channels that come in, at the scale whose factor is 1.
        growth (int): New channels there.
        factors, bottlenecks (Sequence[int]): Of each scale, fine to coarse.
        first, first_before (int): The finest scale that is made, and that of
            the layer before, which made what comes in.
    """

    def __init__(self, width: int, growth: int, factors: Sequence[int],
                 bottlenecks: Sequence[Optional[int]], first: int,
                 first_before: int) -> None:
        super().__init__()
        self.first = first
        self.keep, self.down = nn.ModuleDict(), nn.ModuleDict()
        for scale in range(first, len(factors)):
            new, name = growth * factors[scale], str(scale)
            if scale > first_before:
                # Half from the finer map, half from this one.
                new //= 2
                self.down[name] = dense_branch(
                    width * factors[scale - 1],
                    new,
                    bottlenecks[scale - 1],
                    stride=2)
            self.keep[name] = dense_branch(width * factors[scale], new,
                                           bottlenecks[scale])

    def forward(self, maps: Sequence[Any]) -> List[Any]:
        """Maps of all scales, fine to coarse, None where there is none any
        more."""
        made: List[Any] = [None] * len(maps)
        for name, keep in self.keep.items():
            scale = int(name)
            parts = [maps[scale]]
            if name in self.down:
                parts.append(self.down[name](maps[scale - 1]))
            made[scale] = torch.cat([*parts, keep(maps[scale])], 1)
        return made


class _Transition(nn.Module):
    """1x1 convolutions that make the maps narrower; see :class:`_Layer`."""

    def __init__(self, width: int, narrower: int, factors: Sequence[int],
                 first: int) -> None:
        super().__init__()
        self.convs = nn.ModuleDict({
            str(scale):
            conv_unit(width * factors[scale], narrower * factors[scale], 1)
            for scale in range(first, len(factors))
        })

    def forward(self, maps: Sequence[Any]) -> List[Any]:
        """Maps of all scales, fine to coarse."""
        return [
            self.convs[str(scale)](x) if str(scale) in self.convs else None
            for scale, x in enumerate(maps)
        ]


class MSDNet(SegmentedTrunk):
    """Multi-scale dense network of one exit after each block of layers.

    Source: written from the paper (arXiv 1703.09844), with the details that
    it leaves open as in the authors' settings for CIFAR and ImageNet.

    Args:
        num_exits (int): Number of blocks, and of exits. Defaults to 5.
        base (int): Layers of the first block. Defaults to 4.
        step (int): Layers of the others; see ``step_mode``. Defaults to 4.
        step_mode (str): 'even', or 'linear' where each block is deeper than
            the one before by ``step``. Defaults to 'even'.
        stem_channels (int): Channels of the stem at the finest scale.
            Defaults to 32.
        growth (int): New channels of a layer there. Defaults to 16.
        growth_factors (Sequence[int]): One for each scale, fine to coarse,
            by which both are larger there. Defaults to (1, 2, 4, 4).
        bottleneck_factors (Sequence[int], optional): For each scale, how
            many times as wide as what it makes a 1x1 convolution before it
            is. None has no such convolutions. Defaults to (1, 2, 4, 4).
        reduction (float): Share of the channels that is left where the
            finest scale ends; 1 leaves all. Defaults to 0.5.
        stem_stride (int): 4 for large images, 1 for those of CIFAR. Defaults
            to 4.
        exit_width (int, optional): Channels of the convolutions in front of
            a classifier. Defaults to None, as many as the map has.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> trunk = MSDNet(2, base=2, step=1, stem_channels=4, growth=2)
        >>> [[v.shape[1] for v in f] for f in trunk(torch.rand(2, 3, 64, 64))]
        [[16], [20]]
    """

    state_type = ScaleState
    exit_layers = True

    def __init__(self,
                 num_exits: int = 5,
                 base: int = 4,
                 step: int = 4,
                 step_mode: str = 'even',
                 stem_channels: int = 32,
                 growth: int = 16,
                 growth_factors: Sequence[int] = (1, 2, 4, 4),
                 bottleneck_factors: Optional[Sequence[int]] = (1, 2, 4, 4),
                 reduction: float = 0.5,
                 stem_stride: int = 4,
                 exit_width: Optional[int] = None) -> None:
        check_dense(
            dict(
                num_exits=num_exits,
                base=base,
                step=step,
                stem_channels=stem_channels,
                growth=growth), step_mode, growth_factors, bottleneck_factors,
            reduction, stem_stride, _MOST_SCALES)
        if any(growth * factor % 2 for factor in growth_factors[1:]):
            raise ValueError(f'growth times each of growth_factors but the '
                             f'first must be even, half of it comes from the '
                             f'finer scale, got growth={growth} and '
                             f'{growth_factors!r}')
        super().__init__('x' * num_exits)
        self.factors = tuple(growth_factors)
        self.bottlenecks: Tuple[Any, ...] = tuple(
            bottleneck_factors or (None, ) * len(self.factors))
        self.growth, self.reduction = growth, reduction
        self.stem_stride = stem_stride
        self.min_size = stem_stride * 2**(len(self.factors) - 1)
        self.stem = stem_convs([stem_channels * f for f in self.factors],
                               [2] * len(self.factors), stem_stride)
        self.blocks = nn.ModuleList()
        self.exit_convs = nn.ModuleList()
        depths = block_layers(num_exits, base, step, step_mode)
        widths, width, done = [], stem_channels, 0
        for depth in depths:
            block, width = self._make_block(width, done, depth, sum(depths))
            done += depth
            coarsest = width * self.factors[-1]
            widths.append(exit_width or coarsest)
            self.blocks.append(block)
            self.exit_convs.append(exit_convs(coarsest, widths[-1]))
        self.exit_channels = tuple((width, ) for width in widths)
        init_convs(self)

    def _make_block(self, width: int, done: int, depth: int,
                    total: int) -> Tuple[nn.ModuleList, int]:
        """The layers between two exits, and the width behind them.

        Of ``total`` layers, each as many as there are scales drop the finest
        one that is left.
        """
        parts: List[nn.Module] = []
        interval = math.ceil(total / len(self.factors))
        for number in range(done, done + depth):
            first, before = number // interval, max(0, number - 1) // interval
            parts.append(
                _Layer(width, self.growth, self.factors, self.bottlenecks,
                       first, before))
            width += self.growth
            if first > before and self.reduction < 1:
                narrower = math.floor(self.reduction * width)
                parts.append(_Transition(width, narrower, self.factors, first))
                width = narrower
        return nn.ModuleList(parts), width

    def foldable_parts(self) -> Iterator[Tuple[nn.Module, str]]:
        """All convolutions."""
        return sequentials(self)

    def run_segment(
            self, index: int,
            state: ScaleState) -> Tuple[ScaleState, Tuple[Tensor, ...]]:
        """Run a block, and the convolutions of its exit."""
        count = len(self.factors)
        maps: List[Any] = list(state[:count])[::-1]
        if index == 0:
            maps, x = [], state.x
            for conv in self.stem:
                x = conv(x)
                maps.append(x)
        block: Any = self.blocks[index]
        for part in block:
            maps = part(maps)
        return ScaleState(*maps[::-1]), pooled(self.exit_convs[index](
            self.to_exit(index, maps[-1])))
