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
from ..core.accelerate.folding import fold
from ..core.accelerate.replace import is_unmodified, replace_modules
from ..core.attention import Attention
from ..core.protocols import ExitClassifiers
from ..core.segments import SegmentedTrunk
from .onnxruntime_session import OPSET

__all__ = ['attention_form', 'copies_for_export']


def copies_for_export(trunk: SegmentedTrunk,
                      exits: ExitClassifiers,
                      size: Sequence[int],
                      opset: int = OPSET) -> Tuple[SegmentedTrunk, Any]:
    """Copy a network for export.

    Args:
        trunk (SegmentedTrunk): The network without its exits.
        exits (ExitClassifiers): Its classifiers.
        size (Sequence[int]): Height and width of the images.
        opset (int): ONNX's operator set. Defaults to 23.

    Returns:
        tuple: Both in eval mode, with the same interfaces and results, but
        that the map behind the last z2x is its mean (B, C, 1, 1).
    """
    parts: Any = [trunk, exits]
    both: Any = copy_model(nn.ModuleList(parts))
    fold(both.eval().requires_grad_(False), size, pointwise_products=False)

    def graph_form(module: Any) -> Optional[nn.Module]:
        if is_unmodified(module, Attention):
            return attention_form(module, opset)
        if is_unmodified(module, nn.AdaptiveAvgPool2d):
            return _Pool(module.output_size)
        return None

    both = replace_modules(both, graph_form)
    return both[0], both[1]


def attention_form(attention: Attention, opset: int) -> Attention:
    """Attention as an operator set puts it best."""
    kind = _OnnxAttention if opset >= OPSET else _AttentionProducts
    return kind(attention.num_heads, attention.scale)


class _OnnxAttention(Attention):
    """In a graph, ONNX's operator for attention.

    It takes heads as they lie in (B, L, C), without unfolding them.
    """

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend."""
        scale = self.scale or (_sizes(q)[-1] // self.num_heads)**-0.5
        return _AttentionNode.apply(q, k, v, self.num_heads, scale)


class _AttentionNode(torch.autograd.Function):
    """The operator, and what it computes."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, num_heads: int,
                scale: float) -> Tensor:
        """Attend from q (B, L, C) to k and v (B, M, C)."""
        return Attention(num_heads, scale)(q, k, v)

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


class _AttentionProducts(Attention):
    """The same as two products and a softmax, for older operator sets."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend."""
        length, width = _sizes(q)
        heads = self.num_heads
        scale = self.scale or (width // heads)**-0.5
        # [B, L, C] -> [B, heads, L, C / heads]
        q, k, v = (
            t.reshape(-1,
                      _sizes(t)[0], heads, width // heads).transpose(1, 2)
            for t in (q * scale, k, v))
        out = (q @ k.transpose(-2, -1)).softmax(-1) @ v
        return out.transpose(1, 2).reshape(-1, length, width)


def _sizes(tensor: Tensor) -> List[int]:
    """All sizes but the batch, as constants of the graph."""
    return [int(size) for size in tensor.shape[1:]]


class _Pool(nn.AdaptiveAvgPool2d):
    """Adaptive average pooling in few nodes.

    Exporters write a view of a mean, or, where the cells are not all of one
    size, a gather and an average for each; two matrix products do the same.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, h, w)."""
        size: Any = self.output_size
        height, width = size if isinstance(size, tuple) else (size, size)
        _, h, w = _sizes(x)
        height, width = height or h, width or w
        if height == width == 1:
            return x.mean((2, 3), keepdim=True)
        if h % height == 0 and w % width == 0:
            return F.avg_pool2d(x, (h // height, w // width))
        rows, columns = self._cells(h, height), self._cells(w, width)
        return rows.to(x) @ x @ columns.to(x).T

    def _cells(self, length: int, cells: int) -> Tensor:
        """Matrix (cells, length) that averages adaptive pooling's cells."""
        # A buffer from the first call on, for exporters that would take how
        # it is made into the graph.
        name = f'cells{length}to{cells}'
        if not hasattr(self, name):
            made = F.adaptive_avg_pool1d(torch.eye(length), cells).T
            self.register_buffer(name, made, persistent=False)
        return getattr(self, name)
