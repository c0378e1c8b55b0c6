# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A video frame by frame, until enough has been seen: FrameExit (Ghodrati et
al., CVPR 2021)."""
from typing import Any, List, NamedTuple, Optional, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from ..accelerate.memory_format import to_fast_layout
from ..conv_trunk import ConvTrunk
from ..image_checks import check_images

__all__ = ['ExitGate', 'FrameExit', 'FrameState', 'frame_order']


class FrameState(NamedTuple):
    """The frames x (B, T, 3, H, W) of videos, in the order of time, and the
    features (B, C) of those that were looked at, None at first."""

    x: Tensor
    pooled: Optional[Tensor] = None


def frame_order(num_frames: int) -> List[int]:
    """In which order frames are looked at, from coarse to fine: the middle
    one, the first, the last, and then always the middle of the longest gap;
    of equal gaps the one nearest to the middle of the video.

    Example:
        >>> frame_order(10)  # as published
        [5, 0, 9, 2, 7, 4, 6, 3, 8, 1]
    """
    middle = num_frames // 2
    order = list(dict.fromkeys([middle, 0, num_frames - 1]))
    while len(order) < num_frames:
        seen = sorted(order)
        # Between two neighbours, rounded to even.
        gaps = [(one - other, abs(int(np.rint((one + other) / 2)) - middle),
                 int(np.rint((one + other) / 2)))
                for one, other in zip(seen, seen[1:]) if other - one > 1]
        order.append(min(gaps)[2])
    return order


class FrameExit(ConvTrunk):
    """A convolutional network that looks at one frame after the other, an
    exit behind each; features are the largest values so far.

    Source: written from the paper (arXiv 2104.13400), with the sizes that it
    leaves open as in the authors' settings. A sample is a video: images are
    the T frames of one after those of the other, and a segment takes one
    frame of each.

    Args:
        arch, width, drop_path_rate: As of
            :class:`~mmdynperceiver.core.ConvTrunk`.
        num_frames (int): Number T of frames, and of exits. Defaults to 10.
        hidden (int): Width of the layer behind the pooled features of a
            frame. Defaults to 4096.

    Attributes:
        order (list[int]): See :func:`frame_order`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> trunk = FrameExit('resnet18', width=0.25, num_frames=3, hidden=8)
        >>> videos = torch.rand(2 * 3, 3, 64, 64)
        >>> [[tuple(v.shape) for v in f] for f in trunk(videos)]
        [[(2, 8)], [(2, 8)], [(2, 8)]]
    """

    state_type = FrameState
    frame_by_frame = True

    def __init__(self,
                 arch: Any = 'resnet50',
                 width: float = 1.,
                 drop_path_rate: Optional[float] = None,
                 num_frames: int = 10,
                 hidden: int = 4096) -> None:
        for name, value in (('num_frames', num_frames), ('hidden', hidden)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f'{name} must be a whole number of at least '
                                 f'1, got {value!r}')
        super().__init__(arch, width, drop_path_rate)
        self.order = frame_order(num_frames)
        self.num_segments = self.frames_per_clip = num_frames
        self.exit_kinds = ('x', ) * num_frames
        self.exit_channels = ((hidden, ), ) * num_frames
        self.hidden_channels, self.dropout, self.head_init_std = None, 0., None
        self.embed = nn.Sequential(
            nn.Linear(self.channels[-1], hidden), nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True))

    def initial_state(self, images: Tensor) -> FrameState:
        """The state before the first segment, for normalised frames (B * T,
        3, H, W), or (B, T, 3, H, W).

        Raises:
            TypeError, ValueError: If they do not fit.
        """
        if isinstance(images, Tensor) and images.ndim == 5:
            images = images.flatten(0, 1)
        check_images(images, self.min_size)
        if len(images) % self.num_segments:
            raise ValueError(f'{len(images)} images do not make up videos of '
                             f'{self.num_segments} frames')
        return FrameState(images.unflatten(0, (-1, self.num_segments)))

    def run_branch(self, images: Tensor) -> Tensor:
        """The pooled features (B, C) of frames (B, 3, H, W), each alone."""
        if self.dtype is not None:
            images = images.to(self.dtype)
        x = to_fast_layout(images, self.training, self.stem_stride)
        for module in self.branch_modules():
            x = module(x)
        return x.mean((2, 3))

    def look(self, frames: Tensor, pooled: Optional[Tensor]) -> Tensor:
        """Features (B, C) of what was seen before and of one more frame (B,
        3, H, W) of each video."""
        found = self.embed(self.run_branch(frames))
        return found if pooled is None else torch.maximum(found, pooled)

    def run_segment(self, index: int,
                    state: Any) -> Tuple[Any, Tuple[Tensor, ...]]:
        """Look at the next frame in the order."""
        pooled = self.look(state.x[:, self.order[index]], state.pooled)
        return FrameState(state.x, pooled), (pooled, )

    def forward(self, images: Tensor) -> Tuple[Tuple[Tensor, ...], ...]:
        """What each exit classifies, all frames in one batch."""
        frames = self.initial_state(images).x
        found = self.embed(self.run_branch(frames.flatten(0, 1)))
        # [B * T, C] -> [B, T, C]
        ordered = found.unflatten(0, (-1, self.num_segments))[:, self.order]
        return tuple((pooled, ) for pooled in ordered.cummax(1)[0].unbind(1))


class ExitGate(nn.Module):
    """Whether a frame has changed so little that more will not help.

    Shape: features before and with the frame, (B, channels) each -> a logit
    (B, 1); above 0, the video leaves.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Sequential(
            nn.Linear(channels, 128), nn.BatchNorm1d(128),
            nn.ReLU(inplace=True), nn.Linear(128, 64), nn.BatchNorm1d(64),
            nn.ReLU(inplace=True))
        self.decide = nn.Linear(2 * 64, 1)

    def forward(self, before: Tensor, pooled: Tensor) -> Tensor:
        """Compare both."""
        both = [self.reduce(pooled), self.reduce(before)]
        return self.decide(torch.cat(both, 1))
