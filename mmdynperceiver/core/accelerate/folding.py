# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What does not depend on the image, computed once.

Prepared networks and exported graphs are made of the same replacements:
batch norms go into the layer beside them; the last z2x computes no more than
the mean of its map; the kernels that sharpen and pool become constants; and
in single-head attention two of four projections are gone, in every x2z and
in the self-attention of stage 1. There the weights of the queries meet those
of the keys, and the weights of the values those of the output, with nothing
but the attention matrix in between, whose rows sum to one.
"""
import copy
import math
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils import fusion
from torchvision.ops import StochasticDepth

from ..attention import (MLP, X2Z, Z2X, Attention, CrossAttention,
                         SelfAttentionBlock)
from ..exits import Exits
from ..segments import SegmentedTrunk
from ..trunk import Stage, Trunk
from .fast_blocks import (FastCrossAttention, FastMLP, FastSelfAttentionBlock,
                          FastX2Z, use_fast_blocks)
from .onednn_workaround import SubsampledConv2d
from .replace import is_hooked, is_unmodified, replace_modules

__all__ = ['FoldedCrossAttention', 'FoldedSelfAttention', 'PooledZ2X', 'fold']

# What does nothing in eval mode.
_ONLY_TRAINING = (nn.Dropout, nn.Identity, StochasticDepth)


@torch.no_grad()
def fold(model: nn.Module,
         image_size: Optional[Sequence[int]] = None,
         pointwise_products: bool = True) -> None:
    """Replace what does not depend on the image, in place.

    What is not a layer as PyTorch has it stays, as do trunks and stages of
    other classes, which may run their parts otherwise.

    Args:
        model (nn.Module): Holds trunks and perhaps exits, in eval mode.
        image_size (Sequence[int], optional): Height and width for which to
            make the pooling kernels. Defaults to None, none are made.
        pointwise_products (bool): Whether 1x1 convolutions become matrix
            products, as is fastest in PyTorch. Defaults to True.
    """
    use_fast_blocks(model)
    modules = list(model.modules())
    # Without exits someone else may want the last map.
    has_exits = any(isinstance(module, Exits) for module in modules)
    trunk: Any
    for trunk in modules:
        if type(trunk) is Exits:
            _fold_exits(trunk)
        if not isinstance(trunk, SegmentedTrunk):
            continue
        stages: Any = trunk.stages
        parts: Any = [(trunk, 'stem'), *((stage, 'conv') for stage in stages)]
        for owner, name in parts:
            if name in owner._modules:
                owner._modules[name] = _fold_convs(owner._modules[name],
                                                   pointwise_products)
        if type(trunk) is Trunk:
            _fold_attention(trunk, pool_last=has_exits)
        if isinstance(trunk, Trunk) and image_size is not None:
            _fix_pooling(trunk, image_size)


class Constant(nn.Module):
    """Stands in for a layer whose input is always the same.

    Args:
        value (Tensor): What it gives for one sample (N, D).
    """

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value: Tensor
        self.register_buffer('value', value)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> the constant, once for each sample."""
        return self.value.expand(tokens.shape[0], -1, -1)


class FoldedCrossAttention(nn.Module):
    """Cross-attention whose queries and output need no projection.

    Args:
        attn (CrossAttention): Whose weights to fold.

    Shape: as that of ``attn``.
    """

    def __init__(self, attn: CrossAttention) -> None:
        super().__init__()
        self.norm_q, self.norm_kv = attn.norm_q, attn.norm_kv
        self.channels = attn.proj.out_features
        key, value = attn.kv.weight.chunk(2)
        self.attend, self.kv = _folded(attn.q.weight, key, value, attn.proj)
        # The positions' own part of keys and values, instead of a bias.
        self.position_bias: Optional[Tensor]
        bias = None
        if attn.position_bias is not None:
            keys = attn.position_bias @ attn.q.weight
            assert self.kv.bias is not None
            bias = F.pad(keys, (0, attn.proj.out_features)) + self.kv.bias
            self.kv.register_parameter('bias', None)
        self.register_buffer('position_bias', bias)

    def forward(self, queries: Tensor, kv: Tensor) -> Tensor:
        """Attend from ``queries`` to ``kv`` and add the queries."""
        both = self.kv(self.norm_kv(kv))
        if self.position_bias is not None:
            both = both + self.position_bias
        k, v = both.split(self.channels, -1)
        return queries + self.attend(self.norm_q(queries), k, v)


class FoldedSelfAttention(nn.Module):
    """A self-attention block of one head, without keys' and output's weights.

    Args:
        block (SelfAttentionBlock): Whose weights to fold.

    Shape: as that of ``block``.
    """

    def __init__(self, block: SelfAttentionBlock) -> None:
        super().__init__()
        self.norm, self.mlp = block.norm, block.mlp
        self.channels = block.proj.out_features
        query, key, value = block.qkv.weight.chunk(3)
        self.attend, self.qv = _folded(key, query, value, block.proj)

    def forward(self, z: Tensor) -> Tensor:
        """Update the latents."""
        k = self.norm(z)
        q, v = self.qv(k).split(self.channels, -1)
        return self.mlp(z + self.attend(q, k, v))


class PooledZ2X(nn.Module):
    """Z2X and the mean over the map, in one.

    Args:
        z2x (Z2X): Whose layers to use.
    """

    def __init__(self, z2x: Z2X) -> None:
        super().__init__()
        self.attn = z2x.attn
        self.mlp = z2x.mlp

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """(B, C, H, W), (B, N, D) -> (B, C, 1, 1)."""
        # [B, C, H, W] -> [B, H * W, C]
        tokens = self.attn(x.flatten(2).transpose(1, 2), z)
        # Before the last projection, which then needs one token.
        hidden = F.gelu(self.mlp.fc1(self.mlp.norm(tokens))).mean(1)
        return (tokens.mean(1) + self.mlp.fc2(hidden))[..., None, None]


class PointwiseConv(nn.Module):
    """A 1x1 convolution as the matrix product that it is.

    With one thread PyTorch takes small 1x1 convolutions through a path that
    copies channels-last maps into the other layout and back.

    Args:
        conv (nn.Conv2d): 1x1, of stride 1, without groups or padding.
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


def _folded(other: Tensor, projected: Tensor, value: Tensor,
            proj: nn.Linear) -> Tuple[Attention, nn.Linear]:
    """Attention, and one linear layer for all four projections.

    Args:
        other (Tensor): Weights (A, C) of the side that stays as it is.
        projected (Tensor): Weights (A, D) of the side that is projected.
        value (Tensor): Weights (A, D) of the values.
        proj (nn.Linear): The output's projection, A -> C.
    """
    layer = nn.Linear(projected.shape[1], other.shape[1] + proj.out_features)
    # In double precision, because later code meets the product only.
    products = (other.double().T @ projected.double(),
                proj.weight.double() @ value.double())
    layer.weight.data = torch.cat(products).to(other)
    layer.bias.data = F.pad(proj.bias, (other.shape[1], 0))
    attend = Attention(scale=other.shape[0]**-0.5)
    return attend.eval(), layer.eval().requires_grad_(False)


def _folds(norm: Any) -> bool:
    """Whether a batch norm is but a scale and a shift: not one that was left
    in training mode, or that has no running statistics."""
    return is_unmodified(norm, nn.BatchNorm1d, nn.BatchNorm2d,
                         nn.SyncBatchNorm) and not norm.training and \
        norm.running_mean is not None and norm.affine


def _drops_out(layer: Any) -> bool:
    """Whether a layer does nothing in a prediction."""
    return is_unmodified(layer, *_ONLY_TRAINING) and not layer.training


def _folds_projections(attend: Any, *layers: Any) -> bool:
    """Whether this is one head of linear layers, the last alone biased."""
    return is_unmodified(attend, Attention) and attend.num_heads == 1 and \
        all(is_unmodified(layer, nn.Linear) for layer in layers) and [
            layer.bias is not None for layer in layers
        ] == [False] * (len(layers) - 1) + [True]


def _fold_attention(trunk: Trunk, pool_last: bool) -> None:
    """Fold single-head attention; let the last z2x return a mean."""
    for index, stage in enumerate(trunk.stages):
        if type(stage) is not Stage:
            continue
        x2z: Any = stage.x2z
        attn: Any = x2z.attn if is_unmodified(x2z, FastX2Z) else None
        if is_unmodified(attn, FastCrossAttention) and _folds_projections(
                attn.attend, attn.q, attn.kv, attn.proj):
            x2z.attn = FoldedCrossAttention(attn)
            alone = all(other.x2z is not x2z for other in trunk.stages[1:])
            if index == 0 and alone and \
                    is_unmodified(attn.norm_q, nn.LayerNorm):
                # Queries made of the initial latents.
                x2z.attn.norm_q = Constant(attn.norm_q(trunk.latents))
        blocks: Any = stage.blocks
        block: Any
        for place, block in enumerate(
                blocks if type(blocks) is nn.Sequential else ()):
            if is_unmodified(block, FastSelfAttentionBlock) and \
                    _folds_projections(block.attend, block.qkv, block.proj):
                blocks[place] = FoldedSelfAttention(block)
    last: Any = trunk.last_z2x
    if pool_last and is_unmodified(last, Z2X) and \
            is_unmodified(last.mlp, MLP, FastMLP) and \
            is_unmodified(last.mlp.fc2, nn.Linear):
        trunk._modules['last_z2x'] = PooledZ2X(last)


def _fix_pooling(trunk: Trunk, image_size: Sequence[int]) -> None:
    """Make the pooling kernels for one size of images."""
    for stage, stride in zip(trunk.stages, trunk.strides):
        x2z: Any = stage.x2z
        height, width = (math.ceil(size / stride) for size in image_size)
        side = X2Z.pooled_size
        if isinstance(x2z, FastX2Z) and height % side == width % side == 0:
            x2z.fix_pooling_kernel((height // side, width // side))


def _fold_exits(exits: Exits) -> None:
    """Fold the batch norms of the exits and drop their dropout."""
    part: Any
    for part in (exits.fkt or ()):
        if is_unmodified(part, nn.Sequential) and \
                is_unmodified(part[0], nn.Linear) and _folds(part[1]):
            part[0] = fusion.fuse_linear_bn_eval(part[0].eval(), part[1])
            part[1] = nn.Identity().eval()
    for index, part in enumerate(exits.classifiers):
        if not is_unmodified(part, nn.Sequential):
            continue
        layers: List[Any] = [layer for layer in part if not _drops_out(layer)]
        if len(layers) > 1 and _folds(layers[0]) and \
                is_unmodified(layers[1], nn.Linear) and \
                layers[1].bias is not None:
            layers[:2] = [_fold_into_next(layers[0], layers[1])]
        exits.classifiers[index] = nn.Sequential(*layers)


def _fold_into_next(norm: Any, linear: Any) -> nn.Linear:
    """One linear layer for a batch norm and the linear layer behind it."""
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    shift = norm.bias - norm.running_mean * scale
    folded = copy.deepcopy(linear)
    folded.bias.add_(linear.weight @ shift)
    folded.weight.mul_(scale)
    return folded


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


def _fold_convs(module: nn.Module, pointwise_products: bool) -> nn.Module:
    """Fold batch norms behind convolutions, whatever the module is."""
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
        if _folds(layer) and is_unmodified(before, nn.Conv2d,
                                           SubsampledConv2d):
            # A layer that is used twice cannot be changed for one use.
            if len(source.users) > 1 or calls.count(source.target) > 1:
                continue
            folded = fusion.fuse_conv_bn_eval(before.eval(), layer)
            layers[source.target] = folded
            owner, _, name = source.target.rpartition('.')
            setattr(traced.get_submodule(owner), name, folded)
        elif not _drops_out(layer):
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
