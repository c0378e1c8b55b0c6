# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The trunk: two branches joined by cross-attention, cut into segments.

A stage has two halves, and the exits stand between halves::

    stem  S1.c S1.f  S2.c S2.f  S3.c |exit 0| S3.f  S4.c |exit 1|
          S4.f |exit 2| last Z2X |exit 3|

``Si.c`` is the classification half of stage i, (x, z) -> z, and ``Si.f`` its
feature half, (x, z) -> (x, z). A segment is the work between two exits.
"""
import warnings
from typing import (Any, Dict, Mapping, Optional, Sequence, Tuple, Type,
                    TypedDict, Union)

import torch
from torch import Tensor, nn

from .branches import BASE_DEPTHS, BRANCHES, PaperBranch, TokenMixer
from .feature_branch import FeatureBranch, build_feature_branch
from .segments import Half, StagedTrunk, TrunkState

__all__ = [
    'BASE_DEPTHS', 'EXIT_PLANS', 'Stage', 'TokenMixer', 'Trunk', 'TrunkOptions'
]

_CHAIN = (Half('stem'), *(Half(kind, stage) for stage in range(4)
                          for kind in ('classify', 'extract')),
          Half('last_z2x', 3))

# Where the exits stand: behind which half, and what is pooled there (see
# StagedTrunk). The last is the end of the network.
EXIT_PLANS: Dict[str, Tuple[Tuple[Half, str], ...]] = {
    'classification': ((Half('classify', 2), 'z'), (Half('classify', 3), 'z'),
                       (Half('extract', 3), 'x'), (_CHAIN[-1], 'xz')),
    'joint': ((Half('classify', 2), 'z'), (Half('classify',
                                                3), 'z'), (_CHAIN[-1], 'xz')),
    'feature': ((Half('extract', 2), 'x'), (_CHAIN[-1], 'xz')),
    'last': ((_CHAIN[-1], 'xz'), ),
}


class TrunkOptions(TypedDict, total=False):
    """Arguments of :class:`Trunk` behind ``arch``, for those who hand them
    on."""

    num_latents: Optional[int]
    width: float
    depth_factor: Optional[Sequence[float]]
    num_heads: Optional[Sequence[int]]
    mlp_ratio: Optional[float]
    x2z: bool
    z2x: bool
    dw_conv: Optional[bool]
    last_z2x: Optional[bool]
    token_mixer: Optional[bool]
    drop_path_rate: Optional[float]
    exits: Optional[str]
    branch: str
    latent_channels: Optional[int]
    first_x2z: Optional[int]


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


class Trunk(StagedTrunk):
    """Two-branch network of Dynamic Perceiver; it never sees a class.

    Source: written from the paper, Sec. 3 (arXiv 2306.11248).

    Args:
        arch (str | Mapping | FeatureBranch): Name of the feature branch (see
            ``available_archs``), the blocks of another ResNet (see
            ``build_feature_branch``) or a ready one. Defaults to
            'regnety-800mf'.
        num_latents (int, optional): Number N of latents in stage 1; stages 2
            to 4 have N/2, N/4 and N/8 behind token mixers. Defaults to None,
            128.
        width (float): Width factor of ResNet and MobileNet-v3 branches.
            Defaults to 1.
        depth_factor (Sequence[float], optional): Multipliers of the 3, 3, 9
            and 3 self-attention blocks. Defaults to None, the published
            recipe of the family.
        num_heads (Sequence[int], optional): Attention heads of the four
            stages; each must divide the width of the latents in its stage,
            which is that of the channels that enter it. Defaults to None,
            (1, 2, 4, 8).
        mlp_ratio (float, optional): Hidden width over width in the
            self-attention blocks. Defaults to None, 4.
        x2z (bool): Features to latents after stage 1; the first one always
            stays. Defaults to True.
        z2x (bool): Latents to features between stages. Defaults to True.
        dw_conv (bool, optional): Depth-wise convolution in x2z. Defaults to
            None, True.
        last_z2x (bool, optional): Latents to features after stage 4.
            Defaults to None, True.
        token_mixer (bool, optional): Whether the latents get fewer and wider
            from stage to stage; otherwise their number and width stay those
            of stage 1. Defaults to None, True.
        drop_path_rate (float, optional): Stochastic depth of ResNet
            branches. Defaults to None, the published 0.2.
        exits (str, optional): Where the exits stand (Table 2 of the paper):
            'classification', the four of the paper; 'joint', the same
            without the one on the features alone; 'feature', one on the
            features of stage 3 and one at the end; 'last', only the one at
            the end. Defaults to None, 'classification'.
        branch (str): The classification branch: 'paper', or 'latency-first',
            beyond the paper (see
            :mod:`~mmdynperceiver.core.latency_first`), which has other
            defaults, and no ``dw_conv`` and ``token_mixer`` (see
            :class:`~mmdynperceiver.core.branches.LatencyFirstBranch`).
            Defaults to 'paper'.
        latent_channels (int, optional): Width of the latents of the branch
            'latency-first'. Defaults to None, 192.
        first_x2z (int, optional): The first stage, 0-based and at most 2,
            whose features the latents of that branch read. Defaults to None,
            1.

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
                 num_latents: Optional[int] = None,
                 width: float = 1.,
                 depth_factor: Optional[Sequence[float]] = None,
                 num_heads: Optional[Sequence[int]] = None,
                 mlp_ratio: Optional[float] = None,
                 x2z: bool = True,
                 z2x: bool = True,
                 dw_conv: Optional[bool] = None,
                 last_z2x: Optional[bool] = None,
                 token_mixer: Optional[bool] = None,
                 drop_path_rate: Optional[float] = None,
                 exits: Optional[str] = None,
                 branch: str = 'paper',
                 latent_channels: Optional[int] = None,
                 first_x2z: Optional[int] = None) -> None:
        kind = _branch_of(branch)
        plan = _exit_plan(kind.defaults['exits'] if exits is None else exits)
        super().__init__(_cut(plan))
        features = build_feature_branch(arch, width, drop_path_rate)
        self.attach(features)
        latent_branch = kind(
            features.channels, features.depth_factor,
            dict(
                num_latents=num_latents,
                latent_channels=latent_channels,
                first_x2z=first_x2z,
                depth_factor=depth_factor,
                num_heads=num_heads,
                mlp_ratio=mlp_ratio,
                x2z=x2z,
                z2x=z2x,
                dw_conv=dw_conv,
                last_z2x=last_z2x,
                token_mixer=token_mixer))
        self.maps_as_tokens = kind.maps_as_tokens and z2x
        widths, count = latent_branch.widths, latent_branch.tokens[0]
        latents = torch.randn(count, widths[0]).mul_(0.02).clamp_(-2, 2)
        self.latents = nn.Parameter(latents)
        self.stages = nn.ModuleList(
            Stage(conv, **latent_branch.parts(i))
            for i, conv in enumerate(features.stages))
        self.last_z2x = latent_branch.z2x(
            4) if latent_branch.options['last_z2x'] else None
        self.exit_channels = tuple(
            _pooled_widths(half, pooled, features.channels, widths)
            for half, pooled in plan)

    def run_half(self, half: Half, state: TrunkState) -> TrunkState:
        """Run one half; see :class:`StagedTrunk`."""
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


def _branch_of(name: str) -> Type[PaperBranch]:
    """The class of a classification branch."""
    if name not in BRANCHES:
        raise ValueError(f'branch must be one of {", ".join(BRANCHES)}, got '
                         f'{name!r}')
    return BRANCHES[name]


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


def _pooled_widths(half: Half, kind: str, channels: Sequence[int],
                   widths: Sequence[int]) -> Tuple[int, ...]:
    """Widths of the vectors that are pooled behind a half."""
    x = channels[4 if half.kind == 'last_z2x' else half.stage + 1]
    # At the classification half of a stage the latents have the width that
    # they enter it with; behind stage 4 they keep it.
    return tuple(x if letter == 'x' else widths[half.stage] for letter in kind)
