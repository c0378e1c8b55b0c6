# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Attention and exits with their constant products taken ahead.

In single-head attention the weights of the queries meet those of the keys,
and the weights of the values those of the output, with nothing but the
attention matrix in between, whose rows sum to one. Where the folded weights
are no larger than what they replace, two of four projections are gone: in
every x2z, and in the self-attention of stage 1.
"""
import copy
from typing import Any, List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import fusion
from torchvision.ops import StochasticDepth

from ..attention import (MLP, X2Z, Z2X, CrossAttention, SelfAttentionBlock,
                         attend)
from ..exits import Exits
from ..trunk import Stage, Trunk
from .plain import is_plain

__all__ = [
    'ONLY_TRAINING', 'Constant', 'FoldedCrossAttention', 'FoldedSelfAttention',
    'PooledZ2X', 'drops_out', 'fold_attention', 'fold_exits', 'fold_pooling',
    'folds'
]

# What does nothing in eval mode.
ONLY_TRAINING = (nn.Dropout, nn.Identity, StochasticDepth)


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

    attend = staticmethod(attend)

    def __init__(self, attn: CrossAttention) -> None:
        super().__init__()
        self.norm_q, self.norm_kv = attn.norm_q, attn.norm_kv
        self.channels = attn.proj.out_features
        key, value = attn.kv.weight.chunk(2)
        self.scale, self.kv = _folded(attn.q.weight, key, value, attn.proj)
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
        return queries + self.attend(
            self.norm_q(queries), k, v, scale=self.scale)


class FoldedSelfAttention(nn.Module):
    """A self-attention block of one head, without keys' and output's weights.

    Args:
        block (SelfAttentionBlock): Whose weights to fold.

    Shape: as that of ``block``.
    """

    attend = staticmethod(attend)

    def __init__(self, block: SelfAttentionBlock) -> None:
        super().__init__()
        self.norm, self.mlp = block.norm, block.mlp
        self.channels = block.proj.out_features
        query, key, value = block.qkv.weight.chunk(3)
        self.scale, self.qv = _folded(key, query, value, block.proj)

    def forward(self, z: Tensor) -> Tensor:
        """Update the latents."""
        k = self.norm(z)
        q, v = self.qv(k).split(self.channels, -1)
        return self.mlp(z + self.attend(q, k, v, scale=self.scale))


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
        tokens = x.flatten(2).transpose(1, 2)
        tokens = self.attn(tokens, z)
        hidden = self.mlp.hidden(tokens).mean(1)
        vector = tokens.mean(1) + self.mlp.fc2(hidden)
        return vector[..., None, None]


def _folded(other: Tensor, projected: Tensor, value: Tensor,
            proj: nn.Linear) -> Tuple[float, nn.Linear]:
    """One linear layer in place of queries, keys, values and output.

    Args:
        other (Tensor): Weights (A, C) of the side that stays as it is.
        projected (Tensor): Weights (A, D) of the side that is projected.
        value (Tensor): Weights (A, D) of the values.
        proj (nn.Linear): The output's projection, A -> C.

    Returns:
        tuple: The scale of the products, and the layer D -> 2C.
    """
    layer = nn.Linear(projected.shape[1], other.shape[1] + proj.out_features)
    # In double precision, because later code meets the product only.
    products = (other.double().T @ projected.double(),
                proj.weight.double() @ value.double())
    layer.weight.data = torch.cat(products).to(other)
    layer.bias.data = F.pad(proj.bias, (other.shape[1], 0))
    return other.shape[0]**-0.5, layer.eval().requires_grad_(False)


def folds(norm: Any) -> bool:
    """Whether a batch norm is but a scale and a shift.

    Args:
        norm (Any): Any module. A norm that was left in training mode, or
            that has no running statistics, takes those of the batch.
    """
    return is_plain(norm, nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm) \
        and not norm.training and norm.running_mean is not None and norm.affine


def drops_out(layer: Any) -> bool:
    """Whether a layer does nothing in a prediction.

    Args:
        layer (Any): Any module; one that was left in training mode works on.
    """
    return is_plain(layer, *ONLY_TRAINING) and not layer.training


def _folds_attention(attn: Any) -> bool:
    """Whether cross-attention is that of its class, with plain layers."""
    return is_plain(attn, CrossAttention) and attn.attend is attend and \
        _are_projections(attn.q, attn.kv, attn.proj)


def _folds_block(block: Any) -> bool:
    """Whether self-attention is that of its class, with plain layers."""
    return is_plain(block, SelfAttentionBlock) and block.num_heads == 1 and \
        block.attend is attend and _are_projections(block.qkv, block.proj)


def _are_projections(*layers: Any) -> bool:
    """Whether these are linear layers, of which the last has a bias."""
    return all(is_plain(layer, nn.Linear) for layer in layers) and [
        layer.bias is not None for layer in layers
    ] == [False] * (len(layers) - 1) + [True]


@torch.no_grad()
def fold_attention(trunk: Trunk, pool_last: bool) -> None:
    """Fold the attention of a trunk, in place.

    Args:
        trunk (Trunk): In eval mode. A subclass may run its parts otherwise,
            and is left alone, as are stages of other classes.
        pool_last (bool): Let the last z2x return the mean of its map
            (B, C, 1, 1), and compute no more than that.
    """
    if type(trunk) is not Trunk:
        return
    for index, stage in enumerate(trunk.stages):
        if type(stage) is not Stage:
            continue
        x2z: Any = stage.x2z
        if is_plain(x2z, X2Z) and _folds_attention(x2z.attn):
            x2z.attn = FoldedCrossAttention(x2z.attn)
            alone = all(other.x2z is not x2z for other in trunk.stages[1:])
            if index == 0 and alone and \
                    is_plain(x2z.attn.norm_q, nn.LayerNorm):
                # Queries made of the initial latents.
                x2z.attn.norm_q = Constant(x2z.attn.norm_q(trunk.latents))
        blocks: Any = stage.blocks
        block: Any
        if type(blocks) is nn.Sequential:
            for place, block in enumerate(blocks):
                if _folds_block(block):
                    blocks[place] = FoldedSelfAttention(block)
    last: Any = trunk.last_z2x
    if pool_last and is_plain(last, Z2X) and is_plain(last.mlp, MLP) and \
            is_plain(last.mlp.fc2, nn.Linear):
        trunk._modules['last_z2x'] = PooledZ2X(last)


@torch.no_grad()
def fold_pooling(trunk: Trunk, image_size: Any) -> None:
    """Make the pooling kernels for one size of images, in place.

    Args:
        trunk (Trunk): In eval mode.
        image_size (Sequence[int]): Height and width.
    """
    for stage, stride in zip(trunk.stages, trunk.strides):
        x2z: Any = stage.x2z
        step = X2Z.pooled_size * stride
        if not isinstance(x2z, X2Z) or \
                any(size % step for size in image_size):
            continue
        x2z.fix_pooling_kernel(tuple(size // step for size in image_size))


@torch.no_grad()
def fold_exits(exits: Exits) -> None:
    """Fold the batch norms of the exits and drop their dropout, in place.

    Args:
        exits (Exits): In eval mode; a subclass is left alone.
    """
    if type(exits) is not Exits:
        return
    part: Any
    classifier: Any
    for part in (exits.fkt or ()):
        if is_plain(part, nn.Sequential) and \
                is_plain(part[0], nn.Linear) and folds(part[1]):
            part[0] = fusion.fuse_linear_bn_eval(part[0].eval(), part[1])
            part[1] = nn.Identity().eval()
    for index, classifier in enumerate(exits.classifiers):
        if not is_plain(classifier, nn.Sequential):
            continue
        layers: List[Any] = [
            layer for layer in classifier if not drops_out(layer)
        ]
        if len(layers) > 1 and folds(layers[0]) and \
                is_plain(layers[1], nn.Linear) and layers[1].bias is not None:
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
