# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The trunk: two branches joined by cross-attention, cut into segments.

A stage has two halves, and the exits stand between halves::

    stem  S1.c S1.f  S2.c S2.f  S3.c |exit 0| S3.f  S4.c |exit 1|
          S4.f |exit 2| last Z2X |exit 3|

``Si.c`` is the classification half of stage i, (x, z) -> z, and ``Si.f`` its
feature half, (x, z) -> (x, z). A segment is the work between two exits.
"""
from typing import (Any, Iterator, Mapping, NamedTuple, Optional, Sequence,
                    Tuple, Union)

import torch
from torch import Tensor, nn

from .attention import X2Z, Z2X, SelfAttentionBlock
from .feature_branch import FeatureBranch, build_feature_branch

__all__ = ['Stage', 'TokenMixer', 'Trunk', 'TrunkState']

# Self-attention blocks and heads of the four stages before the depth factor.
BASE_DEPTHS = (3, 3, 9, 3)
NUM_HEADS = (1, 2, 4, 8)


class TrunkState(NamedTuple):
    """What one segment leaves for the next.

    Args:
        x (Tensor): The feature map (B, C, H, W); the images at first.
        z (Tensor, optional): The latents (B, N, D); None at first.
    """

    x: Tensor
    z: Optional[Tensor]


class TokenMixer(nn.Module):
    """Reduce the number of latents and widen them between two stages.

    Args:
        num_latents (int): Latents that come in.
        out_latents (int): Latents that go out.
        channels (int): Width that comes in.
        out_channels (int): Width that goes out.

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


class Trunk(nn.Module):
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

    Attributes:
        exit_channels (tuple[tuple[int]]): For each exit, the widths of the
            pooled vectors that it classifies.
        channels (tuple[int]): Channels C1..C5 of the feature maps X_0..X_4.
        strides (tuple[int]): Strides of X_0..X_4.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> trunk = Trunk('resnet18', width=0.25, num_latents=16)
        >>> [[v.shape[1] for v in f] for f in trunk(torch.rand(2, 3, 64, 64))]
        [[32], [64], [128], [128, 64]]
    """

    num_segments = 4

    def __init__(self,
                 arch: Union[str, Mapping[str, Any],
                             FeatureBranch] = 'regnety-800mf',
                 num_latents: int = 128,
                 width: float = 1.,
                 depth_factor: Optional[Sequence[float]] = None,
                 mlp_ratio: float = 4,
                 x2z: bool = True,
                 z2x: bool = True,
                 dw_conv: bool = True,
                 last_z2x: bool = True,
                 token_mixer: bool = True,
                 drop_path_rate: Optional[float] = None) -> None:
        super().__init__()
        branch = arch if isinstance(arch, FeatureBranch) else \
            build_feature_branch(arch, width, drop_path_rate)
        if depth_factor is None:
            depth_factor = branch.depth_factor
        _check_latents(num_latents)
        _check_depth_factor(depth_factor)
        if not mlp_ratio > 0:
            raise ValueError(f'mlp_ratio must be positive, got {mlp_ratio!r}')
        self.channels = branch.channels
        self.strides = branch.strides
        self.hidden_channels = branch.hidden_channels
        self.dropout = branch.dropout
        self.head_init_std = branch.head_init_std
        if token_mixer:
            tokens = [num_latents // 2**i for i in range(4)]
            widths = list(branch.channels[:4])
        else:
            tokens = [num_latents] * 4
            widths = [branch.channels[0]] * 4
        self.stem = branch.stem
        self.latents = nn.Parameter(
            torch.randn(num_latents, widths[0]).mul_(0.02).clamp_(-2, 2))
        self.stages = nn.ModuleList()
        for i, conv in enumerate(branch.stages):
            last = i == 3
            depth = round(BASE_DEPTHS[i] * depth_factor[i])
            self.stages.append(
                Stage(
                    conv,
                    nn.Sequential(*(
                        SelfAttentionBlock(widths[i], NUM_HEADS[i], mlp_ratio)
                        for _ in range(depth))),
                    x2z=X2Z(branch.channels[i], widths[i], dw_conv)
                    if x2z or i == 0 else None,
                    token_mixer=TokenMixer(tokens[i], tokens[i + 1], widths[i],
                                           widths[i + 1])
                    if token_mixer and not last else None,
                    z2x=Z2X(branch.channels[i + 1], widths[i + 1])
                    if z2x and not last else None))
        self.last_z2x = Z2X(branch.channels[4],
                            widths[3]) if last_z2x else None
        self.exit_channels = ((widths[2], ), (widths[3], ),
                              (branch.channels[4], ), (branch.channels[4],
                                                       widths[3]))

    def begin(self, images: Tensor) -> TrunkState:
        """Check the images and make the state before the first segment.

        Args:
            images (Tensor): Normalised images (B, 3, H, W).

        Raises:
            TypeError: If ``images`` is not a floating-point tensor.
            ValueError: If it has another shape or is smaller than the
                largest stride.
        """
        check_images(images, min_size=max(self.strides))
        return TrunkState(images, None)

    def segment(self, index: int,
                state: TrunkState) -> Tuple[TrunkState, Tuple[Tensor, ...]]:
        """Run the work between exit ``index - 1`` and exit ``index``.

        Args:
            index (int): Segment number, 0 to 3.
            state (TrunkState): What the segment before left.

        Returns:
            tuple: The new state, and the pooled vectors (B, C) that the exit
            classifies, of the widths ``exit_channels[index]``.
        """
        return self._segments[index](self, state)

    def _stage(self, index: int) -> Stage:
        """A stage, typed as one."""
        return self.stages[index]  # type: ignore[return-value]

    def _to_exit0(self, state: TrunkState):
        """Stem, stages 1 and 2, classification half of stage 3."""
        x = self.stem(state.x)
        z = self.latents.expand(x.shape[0], -1, -1)
        for index in (0, 1):
            stage = self._stage(index)
            x, z = stage.extract(x, stage.classify(x, z))
        z = self._stage(2).classify(x, z)
        return TrunkState(x, z), (z.mean(1), )

    def _to_exit1(self, state: TrunkState):
        """Feature half of stage 3, classification half of stage 4."""
        x, z = self._stage(2).extract(state.x, _latents(state))
        z = self._stage(3).classify(x, z)
        return TrunkState(x, z), (z.mean(1), )

    def _to_exit2(self, state: TrunkState):
        """Feature half of stage 4."""
        x, z = self._stage(3).extract(state.x, _latents(state))
        return TrunkState(x, z), (x.mean((2, 3)), )

    def _to_exit3(self, state: TrunkState):
        """The last z2x."""
        x, z = state.x, _latents(state)
        if self.last_z2x is not None:
            x = self.last_z2x(x, z)
        return TrunkState(x, z), (x.mean((2, 3)), z.mean(1))

    _segments = (_to_exit0, _to_exit1, _to_exit2, _to_exit3)

    def iter_exits(self, images: Tensor) -> Iterator[Tuple[Tensor, ...]]:
        """Yield what each exit classifies, shallow to deep.

        The work of a segment is done when its item is asked for, so whoever
        stops iterating skips all that is deeper.
        """
        state = self.begin(images)
        for index in range(self.num_segments):
            state, features = self.segment(index, state)
            yield features

    def forward(self, images: Tensor) -> Tuple[Tuple[Tensor, ...], ...]:
        """Run all segments.

        Args:
            images (Tensor): Normalised images (B, 3, H, W).

        Returns:
            tuple: For each exit, the pooled vectors that it classifies.
        """
        return tuple(self.iter_exits(images))


def _latents(state: TrunkState) -> Tensor:
    """The latents that every segment but the first finds."""
    assert state.z is not None
    return state.z


def check_images(images: Tensor, min_size: int) -> None:
    """Refuse what is not a batch of large enough, normalised images.

    Args:
        images (Tensor): Expected to be (B, 3, H, W), floating point.
        min_size (int): Smallest height and width.

    Raises:
        TypeError: If it is not a floating-point tensor.
        ValueError: If the shape does not fit.
    """
    if not isinstance(images, Tensor) or not images.is_floating_point():
        got = getattr(images, 'dtype', type(images).__name__)
        raise TypeError(f'images must be a floating-point tensor of normalised'
                        f' pixels, got {got}')
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f'images must have the shape (B, 3, H, W), got '
                         f'{tuple(images.shape)}')
    if min(images.shape[2:]) < min_size:
        raise ValueError(
            f'images must be at least {min_size} pixels high and wide (the '
            f'largest stride of the feature branch), got '
            f'{images.shape[2]}x{images.shape[3]}: resize or pad them')


def _check_latents(num_latents: int) -> None:
    """Refuse numbers of latents that cannot be halved three times."""
    if not isinstance(num_latents, int) or num_latents < 8:
        raise ValueError(
            f'num_latents must be a whole number of at least 8, because '
            f'stage 4 keeps one eighth of them, got {num_latents!r}')


def _check_depth_factor(depth_factor: Sequence[float]) -> None:
    """Refuse depth factors that are not four numbers of at least 0."""
    if len(depth_factor) != 4 or not all(f >= 0 for f in depth_factor):
        raise ValueError(f'depth_factor must be four numbers of at least 0, '
                         f'got {tuple(depth_factor)!r}')
