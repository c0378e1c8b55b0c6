# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Convolutions with the batch norms behind them, of any feature branch."""
from typing import Any, Dict, Optional

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import fusion
from torchvision.ops import StochasticDepth

from .onednn_workaround import SubsampledConv2d
from .replace import is_hooked, is_unmodified, replace_modules

__all__ = ['PointwiseConv', 'drops_out', 'fold_convs', 'folds']

# What does nothing in eval mode.
_ONLY_TRAINING = (nn.Dropout, nn.Identity, StochasticDepth)


class PointwiseConv(nn.Module):
    """A 1x1 convolution as the matrix product that it is.

    With one thread PyTorch takes small 1x1 convolutions through a path that
    copies channels-last maps into the other layout and back.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight = nn.Parameter(conv.weight.flatten(1))
        self.bias = conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H, W), channels last."""
        b, c, h, w = x.shape
        # [B, C, H, W] -> [B * H * W, C], a view where channels are last
        pixels = x.permute(0, 2, 3, 1).reshape(-1, c)
        pixels = torch.mm(pixels, self.weight.t())
        if self.bias is not None:
            pixels.add_(self.bias)  # in place: a pass less than before
        return pixels.view(b, h, w, len(self.weight)).permute(0, 3, 1, 2)


def folds(norm: Any) -> bool:
    """Whether a batch norm is but a scale and a shift: not one that was left
    in training mode, or that has no running statistics."""
    return is_unmodified(norm, nn.BatchNorm1d, nn.BatchNorm2d,
                         nn.SyncBatchNorm) and not norm.training and \
        norm.running_mean is not None and norm.affine


def drops_out(layer: Any) -> bool:
    """Whether a layer does nothing in a prediction."""
    return is_unmodified(layer, *_ONLY_TRAINING) and not layer.training


# What is no layer itself.
_HOLDERS = (nn.Module, nn.ModuleDict, nn.ModuleList, nn.Sequential)


class _Tracer(fx.Tracer):
    """Sees layers, and what is no plain call, as one."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether to look no deeper."""
        return isinstance(
            m, (StochasticDepth, PointwiseConv)) or is_hooked(m) or any(
                kind.__module__.startswith(
                    ('torch.nn', 'torch.ao.nn')) and kind not in _HOLDERS
                for kind in type(m).__mro__)


def fold_convs(module: nn.Module, pointwise_products: bool) -> nn.Module:
    """Fold batch norms behind convolutions, and drop what does nothing; a
    module that ``torch.fx`` cannot trace comes out as it is."""
    if is_hooked(module):
        return module
    try:
        graph = _Tracer().trace(module)
    except Exception:  # its code decides what tracing it raises
        return module
    traced = fx.GraphModule(module, graph)
    layers: Dict[str, nn.Module] = dict(traced.named_modules())
    calls = [node.target for node in graph.nodes]
    for node in list(graph.nodes):
        if node.op != 'call_module' or not node.args:
            continue
        layer: Any = layers[node.target]
        source = node.args[0]
        before: Any = layers.get(str(source.target)) if isinstance(
            source, fx.Node) and source.op == 'call_module' else None
        if folds(layer) and is_unmodified(before, nn.Conv2d, SubsampledConv2d):
            # A layer that is used twice cannot be changed for one use.
            if len(source.users) > 1 or calls.count(source.target) > 1:
                continue
            folded = fusion.fuse_conv_bn_eval(before.eval(), layer)
            layers[source.target] = folded
            owner, _, name = source.target.rpartition('.')
            setattr(traced.get_submodule(owner), name, folded)
        elif not drops_out(layer):
            continue
        node.replace_all_uses_with(source)
        graph.erase_node(node)
    traced.delete_all_unused_submodules()
    if pointwise_products:
        replace_modules(traced, _as_product)
    traced.recompile()
    return traced.requires_grad_(False)


def _as_product(layer: Any) -> Optional[nn.Module]:
    """What takes the place of a layer that maps each pixel by itself."""
    if is_unmodified(layer, nn.Conv2d) and layer.groups == 1 and \
            layer.kernel_size == layer.stride == (1, 1) and \
            layer.padding in ((0, 0), 'valid'):
        return PointwiseConv(layer)
    return None
