# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The trunk: two branches joined by cross-attention, cut into segments.

A stage has two halves, and the exits stand between halves::

    stem  S1.c S1.f  S2.c S2.f  S3.c |exit 0| S3.f  S4.c |exit 1|
          S4.f |exit 2| last Z2X |exit 3|

``Si.c`` is the classification half of stage i, (x, z) -> z, and ``Si.f`` its
feature half, (x, z) -> (x, z). A segment is the work between two exits.
"""
import math
import warnings
from typing import (Any, Dict, List, Mapping, Optional, Sequence, Tuple,
                    TypedDict, Union)

import torch
from torch import Tensor, nn

from .attention import X2Z, Z2X, SelfAttentionBlock
from .feature_branch import FeatureBranch, build_feature_branch
from .segments import Half, SegmentedTrunk, TrunkState

__all__ = ['EXIT_PLANS', 'Stage', 'TokenMixer', 'Trunk', 'TrunkOptions']

# Self-attention blocks and heads of the four stages before the depth factor.
BASE_DEPTHS = (3, 3, 9, 3)
NUM_HEADS = (1, 2, 4, 8)

_CHAIN = (Half('stem'), *(Half(kind, stage) for stage in range(4)
                          for kind in ('classify', 'extract')),
          Half('last_z2x', 3))

# Where the exits stand: behind which half, and what is pooled there (see
# SegmentedTrunk). The last is the end of the network.
EXIT_PLANS: Dict[str, Tuple[Tuple[Half, str], ...]] = {
    'classification': ((Half('classify', 2), 'z'), (Half('classify', 3), 'z'),
                       (Half('extract', 3), 'x'), (_CHAIN[-1], 'xz')),
    'feature': ((Half('extract', 2), 'x'), (_CHAIN[-1], 'xz')),
    'last': ((_CHAIN[-1], 'xz'), ),
}


class TrunkOptions(TypedDict, total=False):
    """Arguments of :class:`Trunk` behind ``arch``, for those who hand them
    on."""

    num_latents: int
    width: float
    depth_factor: Optional[Sequence[float]]
    num_heads: Sequence[int]
    mlp_ratio: float
    x2z: bool
    z2x: bool
    dw_conv: bool
    last_z2x: bool
    token_mixer: bool
    drop_path_rate: Optional[float]
    exits: str


class TokenMixer(nn.Module):
    """Reduce the number of latents and widen them between two stages.

    Shape: (B, num_latents, channels) -> (B, out_latents, out_channels).
    """

    def __init__(self, num_latents: int, out_latents: int, channels: int,
                 out_channels: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(
            nn.LayerNorm(num_latents), nn.Linear(num_latents, out_latents))
        self.expand = nn.Sequential(
            nn.LayerNorm(channels), nn.Linear(channels, out_channels))

    def forward(self, z: Tensor) -> Tensor:
        """Mix over the tokens, then over the channels."""
        return self.expand(self.mix(z.transpose(1, 2)).transpose(1, 2))


class Stage(nn.Module):
    """One stage in two halves.

    Args:
        conv (nn.Module): The convolutional stage.
        blocks (nn.Module): The self-attention blocks.
        x2z (nn.Module, optional): Latents read the features at the start.
        token_mixer (nn.Module, optional): Leads to the next stage's latents.
        z2x (nn.Module, optional): Features read the latents at the end.
    """

    def __init__(self,
                 conv: nn.Module,
                 blocks: nn.Module,
                 x2z: Optional[nn.Module] = None,
                 token_mixer: Optional[nn.Module] = None,
                 z2x: Optional[nn.Module] = None) -> None:
        super().__init__()
        self.x2z = x2z
        self.blocks = blocks
        self.conv = conv
        self.token_mixer = token_mixer
        self.z2x = z2x

    def classify(self, x: Tensor, z: Tensor) -> Tensor:
        """The classification half: (x, z) -> z."""
        if self.x2z is not None:
            z = self.x2z(x, z)
        return self.blocks(z)

    def extract(self, x: Tensor, z: Tensor) -> Tuple[Tensor, Tensor]:
        """The feature half: (x, z) -> (x, z)."""
        x = self.conv(x)
        if self.token_mixer is not None:
            z = self.token_mixer(z)
        if self.z2x is not None:
            x = self.z2x(x, z)
        return x, z


class Trunk(SegmentedTrunk):
    """Two-branch network of Dynamic Perceiver; it never sees a class.

    Source: written from the paper, Sec. 3 (arXiv 2306.11248).

    Args:
        arch (str | Mapping | FeatureBranch): Name of the feature branch (see
            ``available_archs``), the blocks of another ResNet (see
            ``build_feature_branch``) or a ready one. Defaults to
            'regnety-800mf'.
        num_latents (int): Number N of latents in stage 1; stages 2 to 4 have
            N/2, N/4 and N/8. Defaults to 128.
        width (float): Width factor of ResNet and MobileNet-v3 branches.
            Defaults to 1.
        depth_factor (Sequence[float], optional): Multipliers of the 3, 3, 9
            and 3 self-attention blocks. Defaults to None, the published
            recipe of the family.
        num_heads (Sequence[int]): Self-attention heads of the four stages;
            each must divide the channels that enter its stage. Defaults to
            (1, 2, 4, 8).
        mlp_ratio (float): Hidden width over width in the self-attention
            blocks. Defaults to 4.
        x2z (bool): Features to latents after stage 1; the first one always
            stays. Defaults to True.
        z2x (bool): Latents to features between stages. Defaults to True.
        dw_conv (bool): Depth-wise convolution in x2z. Defaults to True.
        last_z2x (bool): Latents to features after stage 4. Defaults to True.
        token_mixer (bool): Whether the latents get fewer and wider from
            stage to stage; otherwise their number and width stay those of
            stage 1. Defaults to True.
        drop_path_rate (float, optional): Stochastic depth of ResNet
            branches. Defaults to None, the published 0.2.
        exits (str): Where the exits stand (Table 2 of the paper):
            'classification', the four of the paper; 'feature', one on the
            features of stage 3 and one at the end; 'last', only the one at
            the end. Defaults to 'classification'.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> trunk = Trunk('resnet18', width=0.25, num_latents=16)
        >>> [[v.shape[1] for v in f] for f in trunk(torch.rand(2, 3, 64, 64))]
        [[32], [64], [128], [128, 64]]
    """

    def __init__(self,
                 arch: Union[str, Mapping[str, Any],
                             FeatureBranch] = 'regnety-800mf',
                 num_latents: int = 128,
                 width: float = 1.,
                 depth_factor: Optional[Sequence[float]] = None,
                 num_heads: Sequence[int] = NUM_HEADS,
                 mlp_ratio: float = 4,
                 x2z: bool = True,
                 z2x: bool = True,
                 dw_conv: bool = True,
                 last_z2x: bool = True,
                 token_mixer: bool = True,
                 drop_path_rate: Optional[float] = None,
                 exits: str = 'classification') -> None:
        plan = _exit_plan(exits)
        super().__init__(_cut(plan))
        branch = build_feature_branch(arch, width, drop_path_rate)
        if depth_factor is None:
            depth_factor = branch.depth_factor
        _check_sizes(num_latents, depth_factor, mlp_ratio)
        self.attach(branch)
        tokens, widths = _latent_sizes(num_latents, branch.channels,
                                       token_mixer)
        depths = [round(n * f) for n, f in zip(BASE_DEPTHS, depth_factor)]
        _check_heads(num_heads, widths, depths)
        self.latents = nn.Parameter(
            torch.randn(num_latents, widths[0]).mul_(0.02).clamp_(-2, 2))
        self.stages = nn.ModuleList()
        for i, conv in enumerate(branch.stages):
            last = i == 3
            blocks = nn.Sequential(
                *(SelfAttentionBlock(widths[i], num_heads[i], mlp_ratio)
                  for _ in range(depths[i])))
            self.stages.append(
                Stage(
                    conv,
                    blocks,
                    x2z=X2Z(branch.channels[i], widths[i], dw_conv)
                    if x2z or i == 0 else None,
                    token_mixer=TokenMixer(tokens[i], tokens[i + 1], widths[i],
                                           widths[i + 1])
                    if token_mixer and not last else None,
                    z2x=Z2X(branch.channels[i + 1], widths[i + 1])
                    if z2x and not last else None))
        self.last_z2x = Z2X(branch.channels[4],
                            widths[3]) if last_z2x else None
        self.exit_channels = tuple(
            _pooled_widths(half, kind, branch.channels, widths)
            for half, kind in plan)

    def run_half(self, half: Half, state: TrunkState) -> TrunkState:
        """Run one half; see :class:`SegmentedTrunk`."""
        if half.kind == 'stem':
            x = self.stem(state.x)
            return TrunkState(x, self.latents.expand(x.shape[0], -1, -1))
        x, z = state
        stage: Any = self.stages[half.stage]
        if half.kind == 'classify':
            return TrunkState(x, stage.classify(x, z))
        if half.kind == 'extract':
            return TrunkState(*stage.extract(x, z))
        return state if self.last_z2x is None else \
            TrunkState(self.last_z2x(x, z), z)


def _exit_plan(exits: str) -> Tuple[Tuple[Half, str], ...]:
    """Where the exits stand."""
    if exits == 'none':
        warnings.warn(
            "exits='none' is now exits='last'",
            DeprecationWarning,
            stacklevel=4)
        exits = 'last'
    if exits not in EXIT_PLANS:
        raise ValueError(f'exits must be one of {", ".join(EXIT_PLANS)}, '
                         f'got {exits!r}')
    return EXIT_PLANS[exits]


def _cut(
    plan: Tuple[Tuple[Half, str],
                ...]) -> Sequence[Tuple[Tuple[Half, ...], str]]:
    """Cut the chain of halves behind each exit of a plan."""
    ends = [_CHAIN.index(half) + 1 for half, _ in plan]
    return [(_CHAIN[first:last], kind)
            for first, last, (_, kind) in zip((0, *ends), ends, plan)]


def _latent_sizes(num_latents: int, channels: Sequence[int],
                  token_mixer: bool) -> Tuple[List[int], List[int]]:
    """Number and width of the latents in the four stages."""
    if token_mixer:
        return [num_latents // 2**i for i in range(4)], list(channels[:4])
    return [num_latents] * 4, [channels[0]] * 4


def _pooled_widths(half: Half, kind: str, channels: Sequence[int],
                   widths: Sequence[int]) -> Tuple[int, ...]:
    """Widths of the vectors that are pooled behind a half."""
    x = channels[4 if half.kind == 'last_z2x' else half.stage + 1]
    # At the classification half of a stage the latents have the width that
    # they enter it with; behind stage 4 they keep it.
    return tuple(x if letter == 'x' else widths[half.stage] for letter in kind)


def _check_sizes(num_latents: int, depth_factor: Sequence[float],
                 mlp_ratio: float) -> None:
    """Refuse sizes out of their range."""
    if not isinstance(num_latents, int) or num_latents < 8:
        raise ValueError(
            f'num_latents must be a whole number of at least 8, because '
            f'stage 4 keeps one eighth of them, got {num_latents!r}')
    if len(depth_factor) != 4 or not all(f >= 0 for f in depth_factor):
        raise ValueError(f'depth_factor must be four numbers of at least 0, '
                         f'got {tuple(depth_factor)!r}')
    if not mlp_ratio > 0:
        raise ValueError(f'mlp_ratio must be positive, got {mlp_ratio!r}')


def _check_heads(num_heads: Sequence[int], widths: Sequence[int],
                 depths: Sequence[int]) -> None:
    """Refuse heads that do not divide the widths of the latents."""
    if len(num_heads) != 4 or not all(
            isinstance(heads, int) and heads > 0 for heads in num_heads):
        raise ValueError(f'num_heads must be four whole numbers of at least '
                         f'1, got {num_heads!r}')
    fitting = tuple(
        math.gcd(heads, width) if depth else heads
        for heads, width, depth in zip(num_heads, widths, depths))
    if fitting != tuple(num_heads):
        raise ValueError(
            f'the numbers of self-attention heads must divide the channels '
            f'that enter the stages, got {tuple(num_heads)} heads for '
            f'{tuple(widths)} channels: num_heads={fitting} would fit')
