# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What does not depend on the image, computed once.

Prepared networks and exported graphs are made of the same replacements:
batch norms go into the layer beside them; the last z2x computes no more than
the mean of its map; the kernels that sharpen and pool become constants; and
in single-head attention two of four projections are gone, in every x2z and
in the self-attention of stage 1. There the weights of the queries meet those
of the keys, and the weights of the values those of the output, with nothing
but the attention matrix in between, whose rows sum to one. What the first
attention makes of the initial latents is constant.
"""
import copy
import math
from typing import Any, List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import fusion

from ..attention import (MLP, X2Z, Z2X, Attention, CrossAttention,
                         SelfAttentionBlock)
from ..exits import Exits
from ..latency_first import ReadingBlock
from ..segments import SegmentedTrunk
from ..trunk import Stage, Trunk
from .conv_folding import drops_out, fold_convs, folds
from .fast_blocks import (FastCrossAttention, FastMLP, FastSelfAttentionBlock,
                          FastX2Z, use_fast_blocks)
from .replace import is_unmodified

__all__ = [
    'FirstReadingBlock', 'FoldedCrossAttention', 'FoldedSelfAttention',
    'PooledZ2X', 'fold'
]


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
        for owner, name in list(trunk.foldable_parts()):
            owner._modules[name] = fold_convs(
                owner.get_submodule(name), pointwise_products)
        if type(trunk) is Trunk:
            _fold_attention(trunk, pool_last=has_exits)
            _fold_first_reading(trunk)
        if isinstance(trunk, Trunk) and image_size is not None:
            _fix_pooling(trunk, image_size)


class Constant(nn.Module):
    """Gives a tensor (N, D) for each sample, in place of a layer whose input
    is always the same."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value: Tensor
        self.register_buffer('value', value)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> the constant, once for each sample."""
        return self.value.expand(tokens.shape[0], -1, -1)


class FoldedCrossAttention(nn.Module):
    """Cross-attention whose queries and output need no projection."""

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
    """A block of one head without the weights of keys and output."""

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


class FirstReadingBlock(nn.Module):
    """A reading block of latents (N, channels) that are always the same.

    What it makes of them alone is constant: queries, own keys and values, and
    the perceptron's part of the result.
    """

    def __init__(self, block: ReadingBlock, latents: Tensor) -> None:
        super().__init__()
        self.block = block
        self.channels, _, width = block.widths
        q, own, hidden = block.project(block.norm(latents)).split(
            block.widths, -1)
        of_attention, of_hidden = block.merge.weight.split(
            (self.channels, width), -1)
        rest = latents + F.linear(F.gelu(hidden), of_hidden, block.merge.bias)
        # Added to keys and values of the map, and rows of zeros behind them.
        rows = (block.position_bias[0], own, F.pad(q, (0, self.channels)))
        self.heights = [len(rows[0]) + len(own), len(q)]
        self.missing = len(own) + len(q)
        self.rows: Tensor
        self.rest: Tensor
        self.merge: Tensor
        for name, value in (('rows', torch.cat(rows)), ('rest', rest),
                            ('merge', of_attention)):
            self.register_buffer(name, value)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """Update the latents, of which only the number counts."""
        read = self.block.keys_and_values(x)
        padded = F.pad(read, (0, 0, 0, self.missing))
        both, queries = (padded + self.rows).split(self.heights, 1)
        k, v = both.split(self.channels, -1)
        q, _ = queries.split(self.channels, -1)
        return self.rest + F.linear(self.block.attend(q, k, v), self.merge)


class PooledZ2X(nn.Module):
    """Z2X and the mean over the map, in one."""

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


def _folded(other: Tensor, projected: Tensor, value: Tensor,
            proj: nn.Linear) -> Tuple[Attention, nn.Linear]:
    """Attention, and one linear layer D -> 2C for all four projections: of the
    side that stays as it is (A, C), the one that is projected (A, D), the
    values (A, D) and the output."""
    layer = nn.Linear(projected.shape[1], other.shape[1] + proj.out_features)
    # In double precision, because later code meets the product only.
    products = (other.double().T @ projected.double(),
                proj.weight.double() @ value.double())
    layer.weight.data = torch.cat(products).to(other)
    layer.bias.data = F.pad(proj.bias, (other.shape[1], 0))
    attend = Attention(scale=other.shape[0]**-0.5)
    return attend.eval(), layer.eval().requires_grad_(False)


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


def _fold_first_reading(trunk: Trunk) -> None:
    """Fold what reads features first, if the latents come to it as they
    are."""
    reading: Any = [s for s in trunk.stages if not _leaves_latents(s)]
    if not reading or type(reading[0]) is not Stage:
        return
    block: Any = reading[0].x2z
    if is_unmodified(block, ReadingBlock) and \
            is_unmodified(block.norm, nn.LayerNorm) and \
            is_unmodified(block.project, nn.Linear) and \
            is_unmodified(block.merge, nn.Linear) and \
            all(other.x2z is not block for other in reading[1:]):
        reading[0].x2z = FirstReadingBlock(block, trunk.latents)


def _leaves_latents(stage: Any) -> bool:
    """Whether latents go through a stage as they are."""
    if type(stage) is not Stage:
        return False
    blocks: Any = stage.blocks
    return stage.x2z is None and stage.token_mixer is None and \
        is_unmodified(blocks, nn.Sequential) and not len(blocks)


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
                is_unmodified(part[0], nn.Linear) and folds(part[1]):
            part[0] = fusion.fuse_linear_bn_eval(part[0].eval(), part[1])
            part[1] = nn.Identity().eval()
    for index, part in enumerate(exits.classifiers):
        if not is_unmodified(part, nn.Sequential):
            continue
        layers: List[Any] = [layer for layer in part if not drops_out(layer)]
        if len(layers) > 1 and folds(layers[0]) and \
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
