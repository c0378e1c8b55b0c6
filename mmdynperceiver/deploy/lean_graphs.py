# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The attention of a trunk, written as a runtime wants to see it.

The trunk's own modules export to about twice as many nodes: heads are
unfolded and folded by hand, biases and layouts are nodes of their own. For
a small network, what these cost is more than what they compute. Here tokens
are rows of a matrix, (B * L, C), so that each linear layer is one Gemm with
its bias, and attention is ONNX's own operator, which takes heads as they lie
in (B, L, C). Weights are shared with the trunk; the numbers stay the same.
"""
import copy
from typing import Any, List, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.attention import MLP, X2Z, Z2X, CrossAttention, SelfAttentionBlock
from ..core.segments import SegmentedTrunk
from ..core.trunk import TokenMixer

__all__ = ['lean_copy']


def lean_copy(trunk: SegmentedTrunk) -> SegmentedTrunk:
    """Copy a trunk for export.

    Args:
        trunk (SegmentedTrunk): The network without its exits; it is left as
            it is.

    Returns:
        SegmentedTrunk: In eval mode, with the same interface and results.
    """
    trunk = copy.deepcopy(trunk).eval().requires_grad_(False)
    for stage in trunk.stages:
        for name, module in list(stage.named_children()):
            if isinstance(module, X2Z):
                setattr(stage, name, _LeanX2Z(module))
            elif isinstance(module, Z2X):
                setattr(stage, name, _LeanZ2X(module))
            elif isinstance(module, TokenMixer):
                setattr(stage, name, _LeanTokenMixer(module))
            elif name == 'blocks' and len(module):
                setattr(stage, name, _LeanBlocks(module))
    if isinstance(getattr(trunk, 'last_z2x', None), Z2X):
        trunk.last_z2x = _LeanZ2X(trunk.last_z2x)
    _replace_pools(trunk)
    return trunk


def _replace_pools(module: nn.Module) -> None:
    """Let squeeze-and-excitation pool by a mean, not by a view of one."""
    for name, child in module.named_children():
        if isinstance(child,
                      nn.AdaptiveAvgPool2d) and child.output_size in (1,
                                                                      (1, 1)):
            setattr(module, name, _MeanPool())
        else:
            _replace_pools(child)


class _Attention(torch.autograd.Function):
    """Attention over (B, L, C); in a graph, ONNX's operator for it."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor,
                heads: int) -> Tensor:
        """Attend from q (B, L, C) to k and v (B, M, C)."""
        # [B, L, C] -> [B, heads, L, C / heads]
        q4, k4, v4 = (
            t.unflatten(2, (heads, -1)).transpose(1, 2) for t in (q, k, v))
        out = F.scaled_dot_product_attention(q4, k4, v4)
        return out.transpose(1, 2).flatten(2)

    @staticmethod
    def symbolic(g: Any, q: Any, k: Any, v: Any, heads: int) -> Any:
        """The node."""
        node = g.op(
            'Attention', q, k, v, q_num_heads_i=heads, kv_num_heads_i=heads)
        return node.setType(q.type())


def _attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Attention over (B, L, C)."""
    return _Attention.apply(q, k, v, heads)


def _sizes(tensor: Tensor) -> List[int]:
    """All sizes but the batch, as constants of the graph."""
    return [int(size) for size in tensor.shape[1:]]


def _mlp(mlp: MLP, tokens: Tensor) -> Tensor:
    """The perceptron and its residual, on (B * L, C)."""
    return tokens + mlp.fc2(F.gelu(mlp.fc1(mlp.norm(tokens))))


def _cross(attn: CrossAttention, queries: Tensor, length: int, kv: Tensor,
           kv_length: int) -> Tensor:
    """Cross-attention and its residual, on (B * L, C) and (B * M, D)."""
    width = attn.q.out_features
    q = attn.q(attn.norm_q(queries)).reshape(-1, length, width)
    kv = attn.kv(attn.norm_kv(kv)).reshape(-1, kv_length, 2 * width)
    k, v = kv.split(width, -1)
    if attn.position_bias is not None:
        k = k + attn.position_bias
    out = _attend(q, k, v, heads=1)
    return queries + attn.proj(out.reshape(-1, width))


class _MeanPool(nn.Module):
    """Global average pooling."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 1, 1)."""
        return x.mean((2, 3), keepdim=True)


class _LeanBlocks(nn.Module):
    """Self-attention blocks."""

    def __init__(self, blocks: Sequence[SelfAttentionBlock]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, z: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        n, c = _sizes(z)
        tokens = z.reshape(-1, c)
        for block in self.blocks:
            qkv = block.qkv(block.norm(tokens)).reshape(-1, n, 3 * c)
            out = _attend(*qkv.split(c, -1), heads=block.num_heads)
            tokens = tokens + block.proj(out.reshape(-1, c))
            tokens = _mlp(block.mlp, tokens)
        return tokens.reshape(-1, n, c)


class _LeanX2Z(nn.Module):
    """Latents read the feature map."""

    def __init__(self, x2z: X2Z) -> None:
        super().__init__()
        self.x2z = x2z

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """(B, C, H, W), (B, N, D) -> (B, N, D)."""
        if self.x2z.dw_conv is not None:
            x = x + self.x2z.dw_conv(x)
        side = self.x2z.pooled_size
        kv = _pool(x, side).permute(0, 2, 3, 1).reshape(-1, _sizes(x)[0])
        n, d = _sizes(z)
        tokens = _cross(self.x2z.attn, z.reshape(-1, d), n, kv, side**2)
        return _mlp(self.x2z.mlp, tokens).reshape(-1, n, d)


class _LeanZ2X(nn.Module):
    """The feature map reads the latents."""

    def __init__(self, z2x: Z2X) -> None:
        super().__init__()
        self.z2x = z2x

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """(B, C, H, W), (B, N, D) -> (B, C, H, W)."""
        c, h, w = _sizes(x)
        n, d = _sizes(z)
        tokens = x.permute(0, 2, 3, 1).reshape(-1, c)
        tokens = _cross(self.z2x.attn, tokens, h * w, z.reshape(-1, d), n)
        tokens = _mlp(self.z2x.mlp, tokens)
        return tokens.reshape(-1, h, w, c).permute(0, 3, 1, 2)


class _LeanTokenMixer(nn.Module):
    """Fewer and wider latents for the next stage."""

    def __init__(self, mixer: TokenMixer) -> None:
        super().__init__()
        self.mixer = mixer

    def forward(self, z: Tensor) -> Tensor:
        """(B, N, C) -> (B, N', C')."""
        n, c = _sizes(z)
        mixed = self.mixer.mix(z.transpose(1, 2).reshape(-1, n))
        fewer = _sizes(mixed)[0]
        mixed = mixed.reshape(-1, c, fewer).transpose(1, 2)
        wider = self.mixer.expand(mixed.reshape(-1, c))
        return wider.reshape(-1, fewer, _sizes(wider)[0])


def _pool(x: Tensor, side: int) -> Tensor:
    """Adaptive average pooling to (B, C, side, side).

    Where the cells are not all of one size, exporters write a gather and an
    average for each; two matrix products do the same.
    """
    _, h, w = _sizes(x)
    if h % side == 0 and w % side == 0:
        return F.avg_pool2d(x, (h // side, w // side))
    rows, columns = (_cells(length, side).to(x) for length in (h, w))
    return rows @ x @ columns.T


def _cells(length: int, cells: int) -> Tensor:
    """Matrix (cells, length) that averages adaptive pooling's cells."""
    return F.adaptive_avg_pool1d(torch.eye(length), cells).T
