# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Attention blocks of the classification branch and of the two-way exchange.

Two kinds of cross-attention join the branches (paper, Sec. 3.2, arXiv
2306.11248): **x2z**, in which the latents read the feature map, and **z2x**,
in which the feature map reads the latents. These are the blocks as the
paper's figure shows them; :mod:`~mmdynperceiver.core.accelerate` replaces
them by faster ones.
"""
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    'MLP', 'Attention', 'CrossAttention', 'SelfAttentionBlock', 'X2Z', 'Z2X'
]


class Attention(nn.Module):
    """Scaled dot-product attention of tokens to tokens, without weights.

    ``num_heads`` divides the width C; ``scale``, the factor of the products,
    is one over the square root of a head's width where it is None.

    Shape: queries (B, L, C), keys and values (B, M, C) -> (B, L, C).
    """

    def __init__(self,
                 num_heads: int = 1,
                 scale: Optional[float] = None) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = scale

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend."""
        b, n, c = q.shape
        # [B, L, C] -> [B, heads, L, C / heads]
        q, k, v = (
            t.view(b, t.shape[1], self.num_heads,
                   c // self.num_heads).transpose(1, 2) for t in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return out.transpose(1, 2).reshape(b, n, c)


class MLP(nn.Module):
    """Pre-norm perceptron with one hidden layer and a residual.

    Shape: (B, L, channels) -> (B, L, channels).
    """

    def __init__(self, channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.fc1 = nn.Linear(channels, hidden_channels)
        self.fc2 = nn.Linear(hidden_channels, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """Apply the perceptron and add its input."""
        return tokens + self.fc2(F.gelu(self.fc1(self.norm(tokens))))


class CrossAttention(nn.Module):
    """Single-head pre-norm cross-attention with a residual.

    The key and the value projections are one matrix, so that a forward pass
    reads the normalised keys once. With a number of key positions, a learned
    bias (1, num_positions, attn_channels) is added to the projected keys.

    Shape: queries (B, L, channels), kv (B, M, kv_channels) ->
    (B, L, channels); M is ``num_positions`` where that is given.
    """

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
        self.attend = Attention()
        self.proj = nn.Linear(attn_channels, channels)
        self.position_bias: Optional[nn.Parameter] = None
        if num_positions is not None:
            self.position_bias = nn.Parameter(
                torch.zeros(1, num_positions, attn_channels))

    def forward(self, queries: Tensor, kv: Tensor) -> Tensor:
        """Attend from ``queries`` to ``kv`` and add the queries."""
        q = self.q(self.norm_q(queries))
        k, v = self.kv(self.norm_kv(kv)).split(self.attn_channels, -1)
        if self.position_bias is not None:
            k = k + self.position_bias
        return queries + self.proj(self.attend(q, k, v))


class SelfAttentionBlock(nn.Module):
    """Pre-norm multi-head self-attention block of the classification branch.

    The perceptron's hidden layer is ``mlp_ratio`` times as wide as the
    latents.

    Shape: (B, N, channels) -> (B, N, channels).

    Raises:
        ValueError: If ``num_heads`` does not divide ``channels``.
    """

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
        self.attend = Attention(num_heads)
        self.proj = nn.Linear(channels, channels)
        self.mlp = MLP(channels, int(channels * mlp_ratio))

    def forward(self, z: Tensor) -> Tensor:
        """Update the latents."""
        q, k, v = self.qkv(self.norm(z)).split(self.channels, -1)
        return self.mlp(z + self.proj(self.attend(q, k, v)))


class X2Z(nn.Module):
    """Latents read the feature map (cross-attention at a stage's start).

    The map is sharpened by a residual 7x7 depth-wise convolution (``dw_conv``,
    an ablation switch of the paper's Table 3) and pooled to 7x7 key positions,
    so the cost of the attention does not depend on the image size.

    Shape: x (B, x_channels, H, W), z (B, N, z_channels) ->
    (B, N, z_channels).
    """

    pooled_size = 7

    def __init__(self,
                 x_channels: int,
                 z_channels: int,
                 dw_conv: bool = True) -> None:
        super().__init__()
        self.dw_conv: Optional[nn.Conv2d] = None
        if dw_conv:
            self.dw_conv = nn.Conv2d(
                x_channels, x_channels, 7, padding=3, groups=x_channels)
        self.pool = nn.AdaptiveAvgPool2d(self.pooled_size)
        self.attn = CrossAttention(
            z_channels,
            x_channels,
            z_channels,
            num_positions=self.pooled_size**2)
        self.mlp = MLP(z_channels, z_channels)

    def sharpen_and_pool(self, x: Tensor) -> Tensor:
        """The key positions (B, x_channels, 7, 7) of a feature map."""
        if self.dw_conv is not None:
            x = x + self.dw_conv(x)
        return self.pool(x)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """Update the latents from the feature map."""
        # [B, C, 7, 7] -> [B, 49, C]
        tokens = self.sharpen_and_pool(x).flatten(2).transpose(1, 2)
        return self.mlp(self.attn(z, tokens))


class Z2X(nn.Module):
    """The feature map reads the latents (cross-attention at a stage's end).

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
        tokens = self.mlp(self.attn(x.flatten(2).transpose(1, 2), z))
        return tokens.transpose(1, 2).reshape_as(x)
