# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What the densely connected multi-scale networks are made of."""
from typing import Any, Iterator, Mapping, Optional, Sequence, Tuple

from torch import Tensor, nn

__all__ = [
    'check_dense', 'conv_unit', 'dense_branch', 'exit_convs', 'init_convs',
    'pooled', 'sequentials', 'stem_convs'
]

_STEM_STRIDES = (1, 4)


def conv_unit(in_channels: int,
              channels: int,
              kernel_size: int = 3,
              stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU; the map keeps its size but for the
    stride."""
    return nn.Sequential(
        nn.Conv2d(
            in_channels,
            channels,
            kernel_size,
            stride,
            padding=kernel_size // 2,
            bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


def dense_branch(in_channels: int,
                 channels: int,
                 bottleneck: Optional[int],
                 stride: int = 1) -> nn.Sequential:
    """New channels (B, channels, H, W) of a map: a 1x1 convolution to
    ``bottleneck`` times as many, no more than there are, then a 3x3 one;
    None has no bottleneck."""
    if bottleneck is None:
        return conv_unit(in_channels, channels, stride=stride)
    inner = min(in_channels, bottleneck * channels)
    return nn.Sequential(*conv_unit(in_channels, inner, 1),
                         *conv_unit(inner, channels, stride=stride))


def stem_convs(widths: Sequence[int], strides: Sequence[int],
               stem_stride: int) -> nn.ModuleList:
    """One part for each scale, fine to coarse, each from the map before it:
    the first of stride ``stem_stride``, 1 or 4, the others of ``strides``."""
    first = conv_unit(3, widths[0])
    if stem_stride == 4:
        first = nn.Sequential(*conv_unit(3, widths[0], 7, 2),
                              nn.MaxPool2d(3, 2, 1))
    return nn.ModuleList([
        first, *(conv_unit(finer, width, stride=stride)
                 for finer, width, stride in zip(widths, widths[1:], strides))
    ])


def exit_convs(in_channels: int, channels: int) -> nn.Sequential:
    """The two convolutions of stride 2 in front of a linear classifier."""
    return nn.Sequential(*conv_unit(in_channels, channels, stride=2),
                         *conv_unit(channels, channels, stride=2))


def pooled(x: Tensor) -> Tuple[Tensor, ...]:
    """The mean of a map, as what an exit classifies: one vector (B, C)."""
    return (x.mean((2, 3)), )


def init_convs(network: nn.Module) -> None:
    """Draw the weights of convolutions from a normal distribution that keeps
    the variance of gradients (He et al., arXiv 1502.01852)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(
                module.weight, mode='fan_out', nonlinearity='relu')


def sequentials(owner: nn.Module) -> Iterator[Tuple[nn.Module, str]]:
    """The outermost ``nn.Sequential`` parts: owner and attribute."""
    child: Any
    for name, child in owner._modules.items():
        if type(child) is nn.Sequential:
            yield owner, name
        elif child is not None:
            yield from sequentials(child)


def check_dense(counts: Mapping[str, Any], step_mode: str,
                factors: Sequence[int], bottlenecks: Optional[Sequence[int]],
                reduction: float, stem_stride: int, most_scales: int) -> None:
    """Refuse settings that make no network, by a ValueError.

    Args:
        counts (Mapping[str, Any]): What must be positive whole numbers, by
            the names of the arguments.
        step_mode, factors, bottlenecks, reduction, stem_stride: As of
            :class:`~mmdynperceiver.core.networks.MSDNet`.
        most_scales (int): How many factors there may be.
    """
    factors = tuple(factors)
    for name, value in counts.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f'{name} must be a whole number of at least 1, '
                             f'got {value!r}')
    if not 1 <= len(factors) <= most_scales or not all(
            isinstance(f, int) and f > 0 for f in factors):
        raise ValueError(f'growth_factors must hold a positive whole number '
                         f'for each of 1 to {most_scales} scales, got '
                         f'{factors!r}')
    if bottlenecks is not None and len(bottlenecks) != len(factors):
        raise ValueError(f'bottleneck_factors must hold one number for each '
                         f'of the {len(factors)} scales, got {bottlenecks!r}')
    if step_mode not in ('even', 'linear'):
        raise ValueError(f"step_mode must be 'even' or 'linear', got "
                         f'{step_mode!r}')
    if not 0 < reduction <= 1:
        raise ValueError(f'reduction must be above 0 and at most 1, got '
                         f'{reduction!r}')
    if stem_stride not in _STEM_STRIDES:
        raise ValueError(f'stem_stride must be one of {_STEM_STRIDES}, got '
                         f'{stem_stride!r}')
