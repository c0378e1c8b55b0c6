# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What every trunk offers: halves of stages, and the segments they form."""
from typing import Any, Iterator, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from .accelerate.memory_format import to_fast_layout
from .accelerate.micro_batches import MicroBatches
from .feature_branch import FeatureBranch
from .image_checks import check_images

__all__ = ['Half', 'SegmentedTrunk', 'TrunkState']


class TrunkState(NamedTuple):
    """What one segment leaves for the next: the feature map x (B, C, H, W),
    the images at first, and the latents z (B, N, D), None at first, and
    throughout in a network without a classification branch."""

    x: Tensor
    z: Optional[Tensor]


class Half(NamedTuple):
    """A part of the network that no exit divides: 'stem'; 'classify', (x, z)
    -> z, and 'extract', (x, z) -> (x, z), the two halves of a stage, 0-based;
    or 'last_z2x'."""

    kind: str
    stage: int = 0


class SegmentedTrunk(nn.Module):
    """A network cut into segments; a segment is the work between two exits.

    A subclass sets the attributes below and runs a half.

    Args:
        plan (Sequence[tuple[Sequence[Half], str]]): For each exit, shallow
            to deep, the halves between the exit before and this one, and
            what is pooled here: 'x' the features, 'z' the latents, 'xz'
            both.

    Attributes:
        num_segments (int): Number of segments, and of exits.
        exit_kinds (tuple[str]): What is pooled at each exit.
        exit_channels (tuple[tuple[int]]): For each exit, the widths of the
            pooled vectors that it classifies.
        channels, strides, hidden_channels, dropout, head_init_std: As of
            :class:`~mmdynperceiver.core.FeatureBranch`.
        maps_as_tokens (bool): Whether feature halves end with attention, which
            leaves maps channels last.
        frames_per_clip (int): Images that only make sense together; 1 where
            they are no frames.
        micro_batches (MicroBatches, optional): How a prepared trunk divides
            large batches.
        dtype (torch.dtype, optional): Precision that a prepared trunk
            computes in; None takes images as they are.
        captured (CapturedExits, optional): Graphs that run this trunk and
            its exits; see ``capture_segments``.
        torchvision (str, optional): As of :class:`FeatureBranch`.
        stages (nn.ModuleList): The stages; each has ``conv``, that of the
            feature branch.
    """

    exit_channels: Tuple[Tuple[int, ...], ...]
    channels: Tuple[int, ...]
    strides: Tuple[int, ...]
    hidden_channels: Optional[int]
    dropout: float
    head_init_std: Optional[float]
    torchvision: Optional[str]
    stages: nn.ModuleList

    def __init__(self, plan: Sequence[Tuple[Sequence[Half], str]]) -> None:
        super().__init__()
        self._halves = tuple(tuple(halves) for halves, _ in plan)
        self.exit_kinds = tuple(kind for _, kind in plan)
        self.num_segments = len(self.exit_kinds)
        self.maps_as_tokens = False
        self.frames_per_clip = 1
        self.micro_batches: Optional[MicroBatches] = None
        self.dtype: Optional[torch.dtype] = None
        self.captured: Any = None
        self._branch_is_frozen = False

    def attach(self, branch: FeatureBranch) -> None:
        """Take over a feature branch's stem and what it declares."""
        self.stem = branch.stem
        self.channels = branch.channels
        self.strides = branch.strides
        self.hidden_channels = branch.hidden_channels
        self.dropout = branch.dropout
        self.head_init_std = branch.head_init_std
        self.torchvision = branch.torchvision
        self._init_branch = branch.init_weights

    def init_weights(self) -> None:
        """Initialise the feature branch as the package it comes from does,
        when mmengine says so before a training. This package's own are left
        alone."""
        if self._init_branch is not None:
            self._init_branch()

    def branch_modules(self) -> Tuple[nn.Module, ...]:
        """The stem and the four stages of the feature branch alone."""
        stages: Any = self.stages
        return (self.stem, *(stage.conv for stage in stages))

    def freeze_branch(self) -> None:
        """Keep the weights and the batch norms' statistics of the feature
        branch in training, too."""
        self._branch_is_frozen = True
        for module in self.branch_modules():
            module.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> 'SegmentedTrunk':
        """Set the mode; a frozen feature branch stays in eval mode."""
        super().train(mode)
        if self._branch_is_frozen:
            for module in self.branch_modules():
                module.eval()
        return self

    def run_half(self, half: Half, state: TrunkState) -> TrunkState:
        """Run one half of those that ``halves`` lists.

        After 'stem' and 'extract', x is the next of the feature maps X_0..X_4;
        'last_z2x' renews X_4.
        """
        raise NotImplementedError

    def halves(self, index: int) -> Tuple[Half, ...]:
        """The halves of a segment, 0-based, in their order."""
        return self._halves[index]

    def initial_state(self, images: Tensor) -> TrunkState:
        """The state before the first segment, for normalised images (B, 3, H,
        W); see :func:`~mmdynperceiver.core.image_checks.check_images`."""
        check_images(images, min_size=max(self.strides))
        if self.dtype is not None:
            images = images.to(self.dtype)
        images = to_fast_layout(images, self.training, self.strides[0])
        return TrunkState(images, None)

    def segment(self, index: int,
                state: TrunkState) -> Tuple[TrunkState, Tuple[Tensor, ...]]:
        """Run the work between exit ``index - 1`` and exit ``index``.

        Returns:
            tuple: The new state, and the pooled vectors (B, C) that the exit
            classifies, of the widths ``exit_channels[index]``.
        """
        if self.micro_batches is not None:
            return self.micro_batches.run(self.run_segment, index, state)
        return self.run_segment(index, state)

    def run_segment(
            self, index: int,
            state: TrunkState) -> Tuple[TrunkState, Tuple[Tensor, ...]]:
        """Run a segment on the whole batch at once; see ``segment``."""
        for half in self.halves(index):
            state = self.run_half(half, state)
        return state, pool(state, self.exit_kinds[index])

    def run_halves(self, halves: Tuple[Half, ...],
                   state: TrunkState) -> Tuple[TrunkState, Tuple[Tensor, ...]]:
        """Run halves of stages, of a segment or not: the new state, and the
        feature map x (B, C, H, W) behind each half."""
        maps: Tuple[Tensor, ...] = ()
        for half in halves:
            state = self.run_half(half, state)
            maps += (state.x, )
        return state, maps

    def as_float32(self, state: TrunkState) -> TrunkState:
        """A state in single precision, whatever the trunk computes in."""
        if self.dtype is None:
            return state
        x, z = state
        return TrunkState(x.float(), None if z is None else z.float())

    def iter_exits(self, images: Tensor) -> Iterator[Tuple[Tensor, ...]]:
        """Yield what each exit classifies, shallow to deep; whoever stops
        skips the work of all segments that are deeper."""
        state = self.initial_state(images)
        for index in range(self.num_segments):
            state, features = self.segment(index, state)
            yield features

    def forward(self, images: Tensor) -> Tuple[Tuple[Tensor, ...], ...]:
        """The pooled vectors that each exit classifies, for normalised images
        (B, 3, H, W)."""
        return tuple(self.iter_exits(images))


def pool(state: TrunkState, kind: str) -> Tuple[Tensor, ...]:
    """Average the features over their places ('x'), the latents over the
    tokens ('z'): one vector (B, C) for each letter."""
    vectors: Tuple[Tensor, ...] = ()
    if 'x' in kind:
        vectors += (state.x.mean((2, 3)), )
    if 'z' in kind:
        assert state.z is not None
        vectors += (state.z.mean(1), )
    return vectors
