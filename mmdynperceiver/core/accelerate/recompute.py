# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Linear layers that keep less for the backward pass, or make less.

A linear layer keeps its input for the gradient of its weights. Where that is
the output of a layer norm or of GELU, which keep their own input anyway, it
is computed again instead: that costs little, and a map less is kept.

In a prediction, what a linear layer gives is added in place.
"""
from typing import Any, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .replace import is_transformed, is_unmodified

__all__ = ['add_projection', 'linear_of_gelu', 'linear_of_norm']

# Numbers in an input from which on it is computed again: 1 MiB in single
# precision. Below, calls cost more than memory.
_RECOMPUTE_FROM = 2**18

# Elements of a sample from which a pass over them takes longer than a call.
# Not of the batch, so that a sample is rounded alike in each.
MANY = 2**15

_Grads = Tuple[Optional[Tensor], ...]


def linear_of_norm(linear: nn.Module, norm: nn.Module, x: Tensor) -> Tensor:
    """``linear(norm(x))`` of a layer norm, (..., C) -> (..., C')."""
    if _recomputes(linear, x) and is_unmodified(norm, nn.LayerNorm) and \
            norm.normalized_shape == x.shape[-1:]:
        return _LinearOfNorm.apply(x, norm.weight, norm.bias, norm.eps,
                                   linear.weight, linear.bias)
    return linear(norm(x))


def linear_of_gelu(linear: nn.Module, x: Tensor) -> Tensor:
    """``linear(gelu(x))``, (..., C) -> (..., C')."""
    if _recomputes(linear, x):
        return _LinearOfGelu.apply(x, linear.weight, linear.bias)
    return linear(F.gelu(x))


def _recomputes(linear: nn.Module, x: Tensor) -> bool:
    """Whether the input is worth it, and all types are the same."""
    return linear.training and torch.is_grad_enabled() and \
        x.numel() >= _RECOMPUTE_FROM and is_unmodified(linear, nn.Linear) and \
        not torch.is_autocast_enabled(x.device.type) and not is_transformed()


def add_projection(tokens: Tensor, layer: Any, x: Tensor) -> Tensor:
    """``tokens + layer(x)`` of tokens (B, L, C) and x (B, L, D).

    Where there are many tokens and nothing but the result is wanted, the
    product of a plain linear layer is added in place: that spares two passes
    over them, which for a large map take longer than the product.
    """
    if tokens.shape[1:].numel() < MANY or not _only_the_result(tokens) or \
            not is_unmodified(layer, nn.Linear) or layer.bias is None:
        return tokens + layer(x)
    out = tokens + layer.bias
    # A view, as tokens of plain or channels-last tensors are contiguous.
    rows = out.view(-1, out.shape[-1])
    rows.addmm_(x.reshape(-1, x.shape[-1]), layer.weight.t())
    return out


def _only_the_result(tokens: Tensor) -> bool:
    """Whether no gradients, graph or other precision is asked for."""
    return not torch.is_grad_enabled() and tokens.device.type == 'cpu' and \
        tokens.is_contiguous() and not torch.compiler.is_compiling() and \
        not torch.jit.is_tracing() and \
        not torch.is_autocast_enabled('cpu') and not is_transformed()


class _LinearOfNorm(torch.autograd.Function):
    """``F.linear(F.layer_norm(x, ...), weight, bias)``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, eps: float,
                weight: Tensor, bias: Optional[Tensor]) -> Tensor:
        """Compute, and keep x and its statistics."""
        y, mean, rstd = torch.native_layer_norm(x, x.shape[-1:], scale, shift,
                                                eps)
        ctx.save_for_backward(x, mean, rstd, scale, shift, weight)
        ctx.eps = eps
        return F.linear(y, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> _Grads:
        """Normalise again, then as usual."""
        x, mean, rstd, scale, shift, weight = ctx.saved_tensors
        need_x, need_scale, need_shift, _, *need = ctx.needs_input_grad
        grads = _weight_grads(
            grad, lambda: torch.native_layer_norm(x, x.shape[-1:], scale,
                                                  shift, ctx.eps)[0], *need)
        need_norm = [need_x, need_scale, need_shift]
        if not any(need_norm):
            return (None, None, None, None, *grads)
        norm_grads = torch.ops.aten.native_layer_norm_backward(
            grad @ weight, x, x.shape[-1:], mean, rstd, scale, shift,
            need_norm)
        return (*norm_grads, None, *grads)


class _LinearOfGelu(torch.autograd.Function):
    """``F.linear(F.gelu(x), weight, bias)``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor,
                bias: Optional[Tensor]) -> Tensor:
        """Compute, and keep x."""
        ctx.save_for_backward(x, weight)
        return F.linear(F.gelu(x), weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> _Grads:
        """Activate again, then as usual."""
        x, weight = ctx.saved_tensors
        need_x, *need = ctx.needs_input_grad
        grads = _weight_grads(grad, lambda: F.gelu(x), *need)
        if not need_x:
            return (None, *grads)
        return (torch.ops.aten.gelu_backward(grad @ weight, x), *grads)


def _weight_grads(grad: Tensor, make_input: Any, need_weight: bool,
                  need_bias: bool) -> _Grads:
    """Gradients of a linear layer's weight and bias, of the gradient of its
    output (..., C') and what makes its input (..., C)."""
    rows = grad.flatten(0, -2)
    weight = rows.t() @ make_input().flatten(0, -2) if need_weight else None
    return weight, rows.sum(0) if need_bias else None
