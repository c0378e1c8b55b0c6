# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Attention blocks of the classification branch and of the two-way exchange.

Two kinds of cross-attention join the branches (paper, Sec. 3.2, arXiv
2306.11248): **x2z**, in which the latents read the feature map, and **z2x**,
in which the feature map reads the latents.
"""
from typing import Any, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .accelerate.plain import is_plain
from .accelerate.recompute import (add_projection, linear_of_gelu,
                                   linear_of_norm)

__all__ = [
    'CrossAttention', 'MLP', 'SelfAttentionBlock', 'X2Z', 'Z2X',
    'add_projection', 'attend'
]


def attend(q: Tensor,
           k: Tensor,
           v: Tensor,
           num_heads: int = 1,
           scale: Optional[float] = None) -> Tensor:
    """Attention of tokens to tokens.

    Args:
        q (Tensor): Queries (B, L, C).
        k (Tensor): Keys (B, M, C).
        v (Tensor): Values (B, M, C).
        num_heads (int): Number of heads; it divides C. Defaults to 1.
        scale (float, optional): Factor of the products. Defaults to None,
            one over the square root of a head's width.

    Returns:
        Tensor: (B, L, C).
    """
    if num_heads == 1:
        # [B, L, C] -> [B, 1, L, C]
        return F.scaled_dot_product_attention(
            q.unsqueeze(1), k.unsqueeze(1), v.unsqueeze(1),
            scale=scale).squeeze(1)
    b, n, c = q.shape
    # [B, L, C] -> [B, heads, L, C / heads]
    q, k, v = (
        t.view(b, t.shape[1], num_heads, c // num_heads).transpose(1, 2)
        for t in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, scale=scale)
    return out.transpose(1, 2).reshape(b, n, c)


class MLP(nn.Module):
    """Pre-norm perceptron with one hidden layer and a residual.

    Args:
        channels (int): Width of the input and of the output.
        hidden_channels (int): Width of the hidden layer.

    Shape: (B, L, channels) -> (B, L, channels).
    """

    def __init__(self, channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.fc1 = nn.Linear(channels, hidden_channels)
        self.fc2 = nn.Linear(hidden_channels, channels)

    def hidden(self, tokens: Tensor) -> Tensor:
        """The hidden layer (B, L, hidden_channels), activated."""
        return F.gelu(linear_of_norm(self.fc1, self.norm, tokens))

    def forward(self, tokens: Tensor) -> Tensor:
        """Apply the perceptron and add its input."""
        hidden = linear_of_norm(self.fc1, self.norm, tokens)
        if torch.is_grad_enabled():
            return tokens + linear_of_gelu(self.fc2, hidden)
        return add_projection(tokens, self.fc2, F.gelu(hidden))


class CrossAttention(nn.Module):
    """Single-head pre-norm cross-attention with a residual.

    The key and the value projections are one matrix, so that a forward pass
    reads the normalised keys once.

    Args:
        channels (int): Width of the queries and of the output.
        kv_channels (int): Width of the tokens that are attended to.
        attn_channels (int): Width of queries, keys and values inside.
        num_positions (int, optional): Number of key positions; when given, a
            learned bias (1, num_positions, attn_channels) is added to the
            projected keys. Defaults to None.

    Shape: queries (B, L, channels), kv (B, M, kv_channels) ->
    (B, L, channels); M is ``num_positions`` where that is given.
    """

    attend = staticmethod(attend)

    def __init__(self,
                 channels: int,
                 kv_channels: int,
                 attn_channels: int,
                 num_positions: Optional[int] = None) -> None:
        super().__init__()
        self.attn_channels = attn_channels
        self.norm_q = nn.LayerNorm(channels)
        self.norm_kv = nn.LayerNorm(kv_channels)
        self.q = nn.Linear(channels, attn_channels, bias=False)
        self.kv = nn.Linear(kv_channels, 2 * attn_channels, bias=False)
        self.proj = nn.Linear(attn_channels, channels)
        self.position_bias: Optional[nn.Parameter] = None
        if num_positions is not None:
            self.position_bias = nn.Parameter(
                torch.zeros(1, num_positions, attn_channels))

    def forward(self, queries: Tensor, kv: Tensor) -> Tensor:
        """Attend from ``queries`` to ``kv`` and add the queries."""
        q = linear_of_norm(self.q, self.norm_q, queries)
        k, v = linear_of_norm(self.kv, self.norm_kv,
                              kv).split(self.attn_channels, -1)
        if self.position_bias is not None:
            k = k + self.position_bias
        return add_projection(queries, self.proj, self.attend(q, k, v))


class SelfAttentionBlock(nn.Module):
    """Pre-norm multi-head self-attention block of the classification branch.

    Args:
        channels (int): Width of the latents.
        num_heads (int): Number of heads; must divide ``channels``.
        mlp_ratio (float): Hidden width of the perceptron over ``channels``.
            Defaults to 4.

    Shape: (B, N, channels) -> (B, N, channels).

    Raises:
        ValueError: If ``num_heads`` does not divide ``channels``.
    """

    attend = staticmethod(attend)

    def __init__(self,
                 channels: int,
                 num_heads: int,
                 mlp_ratio: float = 4) -> None:
        super().__init__()
        if channels % num_heads:
            raise ValueError(
                f'the latent width must be a multiple of the number of heads, '
                f'got {channels} channels for {num_heads} heads')
        self.channels = channels
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.proj = nn.Linear(channels, channels)
        self.mlp = MLP(channels, int(channels * mlp_ratio))

    def forward(self, z: Tensor) -> Tensor:
        """Update the latents."""
        qkv = linear_of_norm(self.qkv, self.norm, z)
        q, k, v = qkv.split(self.channels, -1)
        attended = self.attend(q, k, v, self.num_heads)
        return self.mlp(add_projection(z, self.proj, attended))


class X2Z(nn.Module):
    """Latents read the feature map (cross-attention at a stage's start).

    The map is sharpened by a residual 7x7 depth-wise convolution and pooled
    to 7x7 key positions, so the cost of the attention does not depend on the
    image size. Both are linear: where the map divides into 7x7 equal cells,
    one convolution, with the cell's size as its stride, does them together;
    in training it may leave a part of the pooling to a second step.

    Args:
        x_channels (int): Channels of the feature map.
        z_channels (int): Width of the latents.
        dw_conv (bool): Whether to use the depth-wise convolution (an
            ablation switch of the paper's Table 3). Defaults to True.

    Shape: x (B, x_channels, H, W), z (B, N, z_channels) ->
    (B, N, z_channels).
    """

    pooled_size = 7
    pool = staticmethod(F.adaptive_avg_pool2d)

    def __init__(self,
                 x_channels: int,
                 z_channels: int,
                 dw_conv: bool = True) -> None:
        super().__init__()
        self.dw_conv: Optional[nn.Conv2d] = None
        if dw_conv:
            self.dw_conv = nn.Conv2d(
                x_channels, x_channels, 7, padding=3, groups=x_channels)
        self.attn = CrossAttention(
            z_channels,
            x_channels,
            z_channels,
            num_positions=self.pooled_size**2)
        self.mlp = MLP(z_channels, z_channels)
        self.fixed_kernel: Optional[Tensor]
        self.register_buffer('fixed_kernel', None, persistent=False)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """Update the latents from the feature map."""
        x = self.sharpen_and_pool(x)
        # [B, C, 7, 7] -> [B, 49, C]
        return self.mlp(self.attn(z, x.flatten(2).transpose(1, 2)))

    def sharpen_and_pool(self, x: Tensor) -> Tensor:
        """The residual convolution, then the mean over each cell.

        Args:
            x (Tensor): The feature map (B, x_channels, H, W).

        Returns:
            Tensor: The key positions (B, x_channels, 7, 7).
        """
        if self.dw_conv is None:
            return self.pool(x, self.pooled_size)
        cell = (x.shape[2] // self.pooled_size, x.shape[3] // self.pooled_size)
        whole = all(c * self.pooled_size == size
                    for c, size in zip(cell, x.shape[2:]))
        # Measured on CPUs only, and on channels-last maps, as they have them
        # (see SegmentedTrunk.begin). The MACs, counted on the meta device,
        # are those of the two steps.
        merges = x.device.type == 'cpu' and \
            x.is_contiguous(memory_format=torch.channels_last)
        if not (whole and merges and self.merges()):
            return self.pool(x + self.dw_conv(x), self.pooled_size)
        stride = cell
        if self.training:
            stride = (_trained_stride(cell[0]), _trained_stride(cell[1]))
        x = F.conv2d(
            x,
            self.pooling_kernel(stride),
            self.dw_conv.bias,
            stride=stride,
            padding=3,
            groups=x.shape[1])
        return x if stride == cell else self.pool(x, self.pooled_size)

    def merges(self) -> bool:
        """Whether the convolution is still one to merge with the pooling."""
        conv: Any = self.dw_conv
        return is_plain(conv, nn.Conv2d) and \
            conv.kernel_size == (7, 7) and conv.padding == (3, 3) and \
            conv.stride == conv.dilation == (1, 1) and \
            conv.groups == conv.in_channels == conv.out_channels and \
            conv.padding_mode == 'zeros'

    def pooling_kernel(self, cell: Tuple[int, int]) -> Tensor:
        """The kernel that sharpens and pools.

        Args:
            cell (tuple[int, int]): Height and width of a cell in pixels.

        Returns:
            Tensor: (x_channels, 1, 6 + height, 6 + width).
        """
        assert self.dw_conv is not None
        h, w = cell
        fixed = self.fixed_kernel
        if fixed is not None and fixed.shape[2:] == (6 + h, 6 + w):
            return fixed
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
        """Keep the kernel of one size of cells; the weights are now final.

        Args:
            cell (tuple[int, int]): Height and width of a cell in pixels.
        """
        if self.merges():
            self.fixed_kernel = self.pooling_kernel(cell)


def _trained_stride(cell: int) -> int:
    """How much of a cell's side to pool by a convolution in training.

    The weights' gradient of a depth-wise convolution takes twice the time
    and more with kernels above 14 (torch 2.11 on CPUs), that is with strides
    above 8; the rest of the cell is pooled behind it.
    """
    strides = [s for s in range(2, 9) if cell % s == 0]
    return strides[-1] if strides else cell


class Z2X(nn.Module):
    """The feature map reads the latents (cross-attention at a stage's end).

    Args:
        x_channels (int): Channels of the feature map.
        z_channels (int): Width of the latents.

    Shape: x (B, x_channels, H, W), z (B, N, z_channels) ->
    (B, x_channels, H, W), stored channels last.
    """

    def __init__(self, x_channels: int, z_channels: int) -> None:
        super().__init__()
        self.attn = CrossAttention(x_channels, z_channels, x_channels // 8)
        self.mlp = MLP(x_channels, x_channels)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """Update the feature map from the latents."""
        # [B, C, H, W] -> [B, H * W, C]
        tokens = x.flatten(2).transpose(1, 2)
        tokens = self.mlp(self.attn(tokens, z))
        return tokens.transpose(1, 2).reshape_as(x)
