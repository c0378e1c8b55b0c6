# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What the densely connected multi-scale networks are made of."""
from typing import Any, Iterator, Optional, Tuple

from torch import Tensor, nn

__all__ = [
    'conv_unit', 'dense_branch', 'exit_convs', 'init_convs', 'pooled',
    'sequentials'
]


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
