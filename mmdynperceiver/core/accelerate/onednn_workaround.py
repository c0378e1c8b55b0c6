# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Keep narrow convolutions from a fault of the library that runs them."""
from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .replace import is_unmodified, replace_modules

__all__ = ['SubsampledConv2d', 'avoid_onednn_overrun']

# Channels in a vector of the widest instructions (AVX-512).
_VECTOR = 16


class SubsampledConv2d(nn.Conv2d):
    """A strided 1x1 convolution that samples its input before a training.

    On CPUs the weights' gradient of such a convolution, of a channels-last
    map in single precision of fewer than 16 channels (8 without AVX-512),
    writes past its working memory: torch 2.11 with oneDNN 3.10, known as
    https://github.com/uxlfoundation/oneDNN/issues/6035. The fault is in how
    oneDNN samples the map, so where gradients may be wanted, the map is
    sampled here, and the convolution is one of stride 1. The results are the
    same, and so are the names of the weights.

    Args:
        conv (nn.Conv2d): 1x1, without groups or padding; its weights are
            taken over.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        # On the meta device no random numbers are drawn for weights that
        # would be thrown away.
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            bias=conv.bias is not None,
            device='meta')
        self.weight, self.bias = conv.weight, conv.bias
        self.train(conv.training)

    def forward(self, x: Tensor) -> Tensor:
        """Sample, then convolve."""
        if not torch.is_grad_enabled():
            return super().forward(x)
        rows, columns = self.stride
        return F.conv2d(x[:, :, ::rows, ::columns], self.weight, self.bias)


def avoid_onednn_overrun(module: nn.Module) -> nn.Module:
    """Replace the convolutions that :class:`SubsampledConv2d` is made for, in
    place, and return the module, or what takes its place. Convolutions that
    are not plainly PyTorch's own are left alone."""

    def replacement(conv: Any) -> Optional[nn.Module]:
        if is_unmodified(conv, nn.Conv2d) and conv.stride != (1, 1) and \
                conv.kernel_size == (1, 1) and conv.groups == 1 and \
                conv.in_channels < _VECTOR and \
                conv.padding in ((0, 0), 'valid'):
            return SubsampledConv2d(conv)
        return None

    return replace_modules(module, replacement)
