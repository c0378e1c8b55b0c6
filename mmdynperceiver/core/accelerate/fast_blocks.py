# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Attention blocks that take less time and memory for the same numbers.

Every network that this package builds has them, in training too: weights,
their names and hooks are those of :mod:`~mmdynperceiver.core.attention`.
"""
from typing import Any, Dict, Optional, Tuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..attention import MLP, X2Z, CrossAttention, SelfAttentionBlock
from .recompute import add_projection, linear_of_gelu, linear_of_norm
from .replace import is_unmodified

__all__ = [
    'FastCrossAttention', 'FastMLP', 'FastSelfAttentionBlock', 'FastX2Z',
    'use_fast_blocks'
]

_Module = TypeVar('_Module', bound=nn.Module)


class FastMLP(MLP):
    """Keeps less for the backward pass, and adds in place in a prediction."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Apply the perceptron and add its input."""
        hidden = linear_of_norm(self.fc1, self.norm, tokens)
        if torch.is_grad_enabled():
            return tokens + linear_of_gelu(self.fc2, hidden)
        return add_projection(tokens, self.fc2, F.gelu(hidden))


class FastCrossAttention(CrossAttention):
    """As :class:`FastMLP`."""

    def forward(self, queries: Tensor, kv: Tensor) -> Tensor:
        """Attend from ``queries`` to ``kv`` and add the queries."""
        q = linear_of_norm(self.q, self.norm_q, queries)
        k, v = linear_of_norm(self.kv, self.norm_kv,
                              kv).split(self.attn_channels, -1)
        if self.position_bias is not None:
            k = k + self.position_bias
        return add_projection(queries, self.proj, self.attend(q, k, v))


class FastSelfAttentionBlock(SelfAttentionBlock):
    """As :class:`FastMLP`."""

    def forward(self, z: Tensor) -> Tensor:
        """Update the latents."""
        qkv = linear_of_norm(self.qkv, self.norm, z)
        q, k, v = qkv.split(self.channels, -1)
        return self.mlp(add_projection(z, self.proj, self.attend(q, k, v)))


class FastX2Z(X2Z):
    """Convolves and pools at once.

    Both are linear: where the map divides into 7x7 equal cells, one
    convolution, with the cell's size as its stride, does them together; in
    training it may leave a part of the pooling to a second step.
    """

    def sharpen_and_pool(self, x: Tensor) -> Tensor:
        """The key positions (B, x_channels, 7, 7) of a feature map."""
        cell = (x.shape[2] // self.pooled_size, x.shape[3] // self.pooled_size)
        whole = all(c * self.pooled_size == size
                    for c, size in zip(cell, x.shape[2:]))
        # Measured on CPUs only, and on channels-last maps, as they have them
        # (see memory_format). The MACs, counted on the meta device, are
        # those of the two steps.
        if not whole or x.device.type != 'cpu' or \
                not x.is_contiguous(memory_format=torch.channels_last):
            return super().sharpen_and_pool(x)
        stride = cell
        kernel = self._kernel_of(cell)
        if kernel is None:
            if not self.merges():
                return super().sharpen_and_pool(x)
            if self.training:
                stride = (_trained_stride(cell[0]), _trained_stride(cell[1]))
            kernel = self.pooling_kernel(stride)
        assert self.dw_conv is not None
        x = F.conv2d(
            x,
            kernel,
            self.dw_conv.bias,
            stride=stride,
            padding=3,
            groups=x.shape[1])
        return x if stride == cell else self.pool(x)

    def merges(self) -> bool:
        """Whether convolution and pooling are still those of X2Z."""
        conv: Any = self.dw_conv
        return is_unmodified(conv, nn.Conv2d) and \
            conv.kernel_size == (7, 7) and conv.padding == (3, 3) and \
            conv.stride == conv.dilation == (1, 1) and \
            conv.groups == conv.in_channels == conv.out_channels and \
            conv.padding_mode == 'zeros' and \
            is_unmodified(self.pool, nn.AdaptiveAvgPool2d)

    def pooling_kernel(self, cell: Tuple[int, int]) -> Tensor:
        """The kernel (x_channels, 1, 6 + h, 6 + w) that sharpens and pools, of
        cells of h x w pixels."""
        assert self.dw_conv is not None
        h, w = cell
        weight = self.dw_conv.weight
        identity = F.pad(weight.new_ones(1, 1, 1, 1), (3, 3, 3, 3))
        # The mean over a cell, rows and columns in turn.
        kernel = F.conv2d(
            weight + identity,
            weight.new_full((1, 1, h, 1), 1 / h),
            padding=(h - 1, 0))
        return F.conv2d(
            kernel, weight.new_full((1, 1, 1, w), 1 / w), padding=(0, w - 1))

    def fix_pooling_kernel(self, cell: Tuple[int, int]) -> None:
        """Keep the kernel of one size of cells; the weights are now final."""
        if self.merges() and self._kernel_of(cell) is None:
            self.register_buffer(
                'fixed_kernel', self.pooling_kernel(cell), persistent=False)

    def _kernel_of(self, cell: Tuple[int, int]) -> Optional[Tensor]:
        """The kernel that was kept, if it is of this size of cells."""
        kernel = self._buffers.get('fixed_kernel')
        if kernel is None or kernel.shape[2:] != (6 + cell[0], 6 + cell[1]):
            return None
        return kernel


def _trained_stride(cell: int) -> int:
    """How much of a cell's side to pool by a convolution in training.

    The weights' gradient of a depth-wise convolution takes twice the time
    and more with kernels above 14 (torch 2.11 on CPUs), that is with strides
    above 8; the rest of the cell is pooled behind it.
    """
    strides = [s for s in range(2, 9) if cell % s == 0]
    return strides[-1] if strides else cell


_FAST: Dict[type, type] = {
    MLP: FastMLP,
    CrossAttention: FastCrossAttention,
    SelfAttentionBlock: FastSelfAttentionBlock,
    X2Z: FastX2Z
}


def use_fast_blocks(module: _Module) -> _Module:
    """Make the attention blocks in a module fast ones, in place.

    A block changes its class, and with it what ``forward`` does; subclasses of
    others stay. Weights, hooks, state dicts and copies are not concerned.
    """
    for part in module.modules():
        if type(part) in _FAST:
            part.__class__ = _FAST[type(part)]
    return module
