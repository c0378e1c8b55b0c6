# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A classification branch of few, large operations.

Beyond the paper. For one image what an operation of the classification
branch costs is hardly what it computes: each takes some microseconds. So a
stage has one block here, in which the latents read the feature map and each
other in one attention, with the perceptron at its side; and the features
read the latents by a scale and a shift for each channel.
"""
from typing import List

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import X2Z, Attention

__all__ = ['ChannelGate', 'ParallelBlock', 'ReadingBlock']


class ParallelBlock(nn.Module):
    """Self-attention and a perceptron side by side.

    One product makes queries, keys, values and the perceptron's hidden layer,
    which is ``mlp_ratio`` times as wide as the latents; one takes the results
    of both back.

    Shape: (B, N, channels) -> (B, N, channels).
    """

    def __init__(self,
                 channels: int,
                 num_heads: int,
                 mlp_ratio: float = 2) -> None:
        super().__init__()
        hidden = int(channels * mlp_ratio)
        # Queries, keys and values, hidden layer.
        self.widths: List[int] = [channels, 2 * channels, hidden]
        self.norm = nn.LayerNorm(channels)
        self.project = nn.Linear(channels, sum(self.widths))
        self.attend = Attention(num_heads)
        self.merge = nn.Linear(channels + hidden, channels)

    def read(self, z: Tensor, *kv: Tensor) -> Tensor:
        """Update the latents by themselves, and by further keys and values
        (B, M, 2 * channels)."""
        q, own, hidden = self.project(self.norm(z)).split(self.widths, -1)
        k, v = torch.cat([*kv, own], 1).split(self.widths[0], -1)
        both = torch.cat([self.attend(q, k, v), F.gelu(hidden)], -1)
        return z + self.merge(both)

    def forward(self, z: Tensor) -> Tensor:
        """Update the latents."""
        return self.read(z)


class ReadingBlock(ParallelBlock):
    """A parallel block whose attention reads a feature map, too.

    The map is pooled to 7x7 key positions, as in
    :class:`~mmdynperceiver.core.attention.X2Z`.

    Shape: x (B, x_channels, H, W), z (B, N, channels) -> (B, N, channels).
    """

    def __init__(self,
                 x_channels: int,
                 channels: int,
                 num_heads: int,
                 mlp_ratio: float = 2) -> None:
        super().__init__(channels, num_heads, mlp_ratio)
        self.pool = nn.AdaptiveAvgPool2d(X2Z.pooled_size)
        self.norm_x = nn.LayerNorm(x_channels)
        self.kv = nn.Linear(x_channels, 2 * channels, bias=False)
        self.position_bias = nn.Parameter(
            torch.zeros(1, X2Z.pooled_size**2, 2 * channels))

    def keys_and_values(self, x: Tensor) -> Tensor:
        """Those of the map's positions (B, 49, 2 * channels), without what
        is learned of each position."""
        # [B, C, 7, 7] -> [B, 49, C]
        tokens = self.pool(x).flatten(2).transpose(1, 2)
        return self.kv(self.norm_x(tokens))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:  # type: ignore
        """Update the latents from the feature map and from themselves."""
        return self.read(z, self.keys_and_values(x) + self.position_bias)


class ChannelGate(nn.Module):
    """The feature map reads the mean of the latents: a scale and a shift.

    At first it changes nothing, and so spares pretrained features.

    Shape: x (B, x_channels, H, W), z (B, N, z_channels) ->
    (B, x_channels, H, W).
    """

    def __init__(self, x_channels: int, z_channels: int) -> None:
        super().__init__()
        self.gate = nn.Linear(z_channels, 2 * x_channels)
        nn.init.zeros_(self.gate.weight)
        nn.init.constant_(self.gate.bias[:x_channels].data, 1)
        nn.init.zeros_(self.gate.bias[x_channels:].data)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """Update the feature map from the latents."""
        # [B, 2C] -> [B, 2C, 1, 1]
        gate = self.gate(z.mean(1))[..., None, None]
        scale, shift = gate.split(self.gate.out_features // 2, 1)
        return x * scale + shift
