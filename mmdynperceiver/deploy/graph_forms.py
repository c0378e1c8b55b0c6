# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A network, written as a runtime wants to see it.

What is the same for every image is folded, and a few operations are put
differently, because exporters write them as many nodes: for a small network,
what a node costs is more than what it computes. The numbers stay the same.
"""
from typing import Any, List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.accelerate.copies import copy_model
from ..core.accelerate.folding import fold_attention, fold_exits, fold_pooling
from ..core.accelerate.plain import is_plain
from ..core.attention import X2Z, attend
from ..core.exits import Exits
from ..core.segments import SegmentedTrunk
from ..core.trunk import Trunk
from .onnxruntime_session import OPSET

__all__ = ['copies_for_export']


def copies_for_export(trunk: SegmentedTrunk,
                      exits: Exits,
                      size: Sequence[int],
                      opset: int = OPSET) -> Tuple[SegmentedTrunk, Exits]:
    """Copy a network for export.

    Args:
        trunk (SegmentedTrunk): The network without its exits; it is left as
            it is.
        exits (Exits): Its classifiers, likewise.
        size (Sequence[int]): Height and width of the images.
        opset (int): ONNX's operator set. Defaults to 23.

    Returns:
        tuple: Both in eval mode, with the same interfaces and results, but
        that the map behind the last z2x is its mean (B, C, 1, 1).
    """
    trunk, exits = (
        copy_model(module).eval().requires_grad_(False)
        for module in (trunk, exits))
    fold_exits(exits)
    if isinstance(trunk, Trunk):
        fold_attention(trunk, pool_last=True)
        fold_pooling(trunk, size)
    for module in trunk.modules():
        if getattr(module, 'attend', None) is attend:
            module.attend = _attend if opset >= OPSET else \
                _attend_plainly
        if isinstance(module, X2Z) and module.pool is X2Z.pool:
            module.pool = _pool
    _replace_pools(trunk)
    return trunk, exits


def _replace_pools(module: nn.Module) -> None:
    """Let squeeze-and-excitation pool by a mean, not by a view of one."""
    for name, child in module.named_children():
        if is_plain(child, nn.AdaptiveAvgPool2d) and \
                child.output_size in (1, (1, 1)):  # type: ignore
            setattr(module, name, _MeanPool())
        else:
            _replace_pools(child)


class _Attention(torch.autograd.Function):
    """In a graph, ONNX's operator for attention.

    It takes heads as they lie in (B, L, C), without unfolding them.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, num_heads: int,
                scale: float) -> Tensor:
        """Attend from q (B, L, C) to k and v (B, M, C)."""
        return attend(q, k, v, num_heads, scale)

    @staticmethod
    def symbolic(g: Any, q: Any, k: Any, v: Any, num_heads: int,
                 scale: float) -> Any:
        """The node."""
        node = g.op(
            'Attention',
            q,
            k,
            v,
            q_num_heads_i=num_heads,
            kv_num_heads_i=num_heads,
            scale_f=scale)
        return node.setType(q.type())


def _attend(q: Tensor,
            k: Tensor,
            v: Tensor,
            num_heads: int = 1,
            scale: Optional[float] = None) -> Tensor:
    """Stands in for :func:`mmdynperceiver.core.attention.attend`."""
    scale = scale or (_sizes(q)[-1] // num_heads)**-0.5
    return _Attention.apply(q, k, v, num_heads, scale)


def _attend_plainly(q: Tensor,
                    k: Tensor,
                    v: Tensor,
                    num_heads: int = 1,
                    scale: Optional[float] = None) -> Tensor:
    """The same as two products and a softmax, for older operator sets."""
    length, width = _sizes(q)
    scale = scale or (width // num_heads)**-0.5
    # [B, L, C] -> [B, heads, L, C / heads]
    q, k, v = (
        t.reshape(-1,
                  _sizes(t)[0], num_heads, width // num_heads).transpose(1, 2)
        for t in (q * scale, k, v))
    out = (q @ k.transpose(-2, -1)).softmax(-1) @ v
    return out.transpose(1, 2).reshape(-1, length, width)


def _sizes(tensor: Tensor) -> List[int]:
    """All sizes but the batch, as constants of the graph."""
    return [int(size) for size in tensor.shape[1:]]


class _MeanPool(nn.Module):
    """Global average pooling."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 1, 1)."""
        return x.mean((2, 3), keepdim=True)


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
