# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What every trunk offers, segments; and how halves of stages form them."""
from typing import Any, Iterator, NamedTuple, Optional, Sequence, Tuple, Type

import torch
from torch import Tensor, nn

from .accelerate.memory_format import to_fast_layout
from .accelerate.micro_batches import MicroBatches
from .feature_branch import FeatureBranch
from .image_checks import check_images

__all__ = ['Half', 'SegmentedTrunk', 'StagedTrunk', 'TrunkState']


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

    A subclass gives ``run_segment``; see ``docs/protocol.md`` for what
    follows from that. What segments hand on is a named tuple, of the class
    ``state_type``: tensors with a row for each image first, or None; the
    images, and then what takes their place, are the first of them and never
    None.

    Args:
        exit_kinds (Sequence[str]): For each exit, shallow to deep, what is
            pooled there: a letter for each vector, 'x' of features, 'z' of
            latents.
        exit_channels (Sequence[Sequence[int]]): For each exit, the widths of
            these vectors. A subclass that knows them later sets them itself.

    Attributes:
        num_segments (int): Number of segments, and of exits.
        exit_kinds, exit_channels (tuple): As given.
        min_size (int): Height and width of the smallest images, in pixels.
        stem_stride (int): How much smaller the first layer makes a map.
        decides_inside (bool): Whether a segment chooses by values what it
            computes, and so cannot be exported as a graph.
        frame_by_frame (bool): Whether a sample is a video of which each
            segment takes another frame, and so cannot be exported yet.
        exit_layers (bool): Whether a segment ends with layers of its exit
            alone, whose input it passes through ``to_exit``.
        gradient_equilibrium (bool): Whether gradients are rescaled in
            training where an exit branches off, see ``docs/training.md``.
        hidden_channels, dropout, head_init_std: As of
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
    """

    state_type: Type[Any] = TrunkState
    exit_channels: Tuple[Tuple[int, ...], ...]
    min_size: int = 1
    stem_stride: int = 1
    decides_inside: bool = False
    frame_by_frame: bool = False
    exit_layers: bool = False
    hidden_channels: Optional[int] = None
    dropout: float = 0.
    head_init_std: Optional[float] = None

    def __init__(
        self,
        exit_kinds: Sequence[str],
        exit_channels: Sequence[Sequence[int]] = ()
    ) -> None:
        super().__init__()
        self.exit_kinds = tuple(exit_kinds)
        self.exit_channels = tuple(map(tuple, exit_channels))
        self.num_segments = len(self.exit_kinds)
        self.maps_as_tokens = False
        self.frames_per_clip = 1
        self.gradient_equilibrium = False
        self.micro_batches: Optional[MicroBatches] = None
        self.dtype: Optional[torch.dtype] = None
        self.captured: Any = None

    def run_segment(self, index: int,
                    state: Any) -> Tuple[Any, Tuple[Tensor, ...]]:
        """Run a segment on the whole batch at once; see ``segment``."""
        raise NotImplementedError

    def foldable_parts(self) -> Iterator[Tuple[nn.Module, str]]:
        """The parts whose convolutions may take in the batch norms behind
        them when a network is prepared or exported: owner and attribute.

        Each is called as a whole. Here there are none.
        """
        return iter(())

    def initial_state(self, images: Tensor) -> Any:
        """The state before the first segment, for normalised images (B, 3, H,
        W); see :func:`~mmdynperceiver.core.image_checks.check_images`."""
        check_images(images, min_size=self.min_size)
        if self.dtype is not None:
            images = images.to(self.dtype)
        images = to_fast_layout(images, self.training, self.stem_stride)
        rest = (None, ) * (len(self.state_type._fields) - 1)
        return self.state_type(images, *rest)

    def segment(self, index: int,
                state: Any) -> Tuple[Any, Tuple[Tensor, ...]]:
        """Run the work between exit ``index - 1`` and exit ``index``.

        Returns:
            tuple: The new state, and the pooled vectors (B, C) that the exit
            classifies, of the widths ``exit_channels[index]``.
        """
        if self.micro_batches is not None:
            return self.micro_batches.run(self.run_segment, index, state)
        state, vectors = self.run_segment(index, state)
        if self.training and self.gradient_equilibrium:
            return self._balance(index, state, vectors)
        return state, vectors

    def _balance(
            self, index: int, state: Any,
            vectors: Tuple[Tensor, ...]) -> Tuple[Any, Tuple[Tensor, ...]]:
        """Let what an exit reads get the mean of the gradients of this exit
        and of those behind it, of which what goes on has the mean already
        (gradient equilibrium, Li et al., arXiv 1908.06294, Sec. 3.2)."""
        behind = self.num_segments - 1 - index
        read = {
            name: getattr(state, name, None)
            for name in self.exit_kinds[index]
        }
        # Images that are looked at anew hand on no gradient.
        if not behind or not any(tensor is not None and tensor.requires_grad
                                 for tensor in read.values()):
            return state, vectors
        state = state._replace(
            **{
                name: scale_gradient(tensor, behind / (behind + 1))
                for name, tensor in read.items() if tensor is not None
            })
        if not self.exit_layers:
            vectors = tuple(
                scale_gradient(one, 1 / (behind + 1)) for one in vectors)
        return state, vectors

    def to_exit(self, index: int, x: Tensor) -> Tensor:
        """What an exit's own layers read, of a map that goes on as well."""
        if self.training and self.gradient_equilibrium:
            return scale_gradient(x, 1 / (self.num_segments - index))
        return x

    def run_branch(self, images: Tensor) -> Tensor:
        """The feature branch alone: what a classifier behind it reads (B, C),
        of normalised images (B, 3, H, W). Here the whole network is one, and
        its last exit reads so."""
        *_, vectors = self.iter_exits(images)
        return torch.cat(vectors, 1)

    @property
    def branch_channels(self) -> int:
        """Width C of what ``run_branch`` returns."""
        return sum(self.exit_channels[-1])

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


class StagedTrunk(SegmentedTrunk):
    """A trunk of a stem and four stages, each of two halves.

    A subclass sets the attributes below and runs a half.

    Args:
        plan (Sequence[tuple[Sequence[Half], str]]): For each exit, shallow
            to deep, the halves between the exit before and this one, and
            what is pooled here: 'x' the features, 'z' the latents, 'xz'
            both.

    Attributes:
        channels, strides, torchvision: As of
            :class:`~mmdynperceiver.core.FeatureBranch`.
        stages (nn.ModuleList): The stages; each has ``conv``, that of the
            feature branch.
    """

    channels: Tuple[int, ...]
    strides: Tuple[int, ...]
    torchvision: Optional[str]
    stages: nn.ModuleList

    def __init__(self, plan: Sequence[Tuple[Sequence[Half], str]]) -> None:
        super().__init__([kind for _, kind in plan])
        self._halves = tuple(tuple(halves) for halves, _ in plan)
        self._branch_is_frozen = False

    def attach(self, branch: FeatureBranch) -> None:
        """Take over a feature branch's stem and what it declares.

        Raises:
            ValueError: If it has not four stages.
        """
        if len(branch.stages) != 4:
            raise ValueError(f'a network in stages needs four, got a feature '
                             f'branch of {len(branch.stages)}: give four '
                             f'depths')
        self.stem = branch.stem
        self.channels = branch.channels
        self.strides = branch.strides
        self.min_size = max(branch.strides)
        self.stem_stride = branch.strides[0]
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

    def run_branch(self, images: Tensor) -> Tensor:
        """The mean of X_4 (B, C), of stem and convolutions alone."""
        x = self.initial_state(images).x
        for module in self.branch_modules():
            x = module(x)
        return x.mean((2, 3))

    @property
    def branch_channels(self) -> int:
        """Channels of X_4."""
        return self.channels[-1]

    def freeze_branch(self) -> None:
        """Keep the weights and the batch norms' statistics of the feature
        branch in training, too."""
        self._branch_is_frozen = True
        for module in self.branch_modules():
            module.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> 'StagedTrunk':
        """Set the mode; a frozen feature branch stays in eval mode."""
        super().train(mode)
        if self._branch_is_frozen:
            for module in self.branch_modules():
                module.eval()
        return self

    def foldable_parts(self) -> Iterator[Tuple[nn.Module, str]]:
        """The stem and the convolutions of the stages."""
        parts: Any = [(self, 'stem'), *((s, 'conv') for s in self.stages)]
        return (part for part in parts if part[1] in part[0]._modules)

    def run_half(self, half: Half, state: TrunkState) -> TrunkState:
        """Run one half of those that ``halves`` lists.

        After 'stem' and 'extract', x is the next of the feature maps X_0..X_4;
        'last_z2x' renews X_4.
        """
        raise NotImplementedError

    def halves(self, index: int) -> Tuple[Half, ...]:
        """The halves of a segment, 0-based, in their order."""
        return self._halves[index]

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


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """The same values; what comes back through them is multiplied."""
    values = x.detach()
    return values + factor * (x - values)


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
