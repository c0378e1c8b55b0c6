# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What an image needs that stops early: the levels it lacks, and a policy."""
from typing import Dict, Sequence, Tuple

import torch.nn.functional as F
from torch import Tensor, nn

from ..core.accelerate.fast_blocks import use_fast_blocks
from ..core.attention import Z2X
from ..core.segments import TrunkState

__all__ = ['DetectionExits', 'GainHead', 'LevelFill', 'PyramidFill']


class LevelFill(nn.Module):
    """A missing level from the one above: one light down-sampling.

    A depth-wise and a 1x1 convolution, then the features read the latents,
    as at the end of a stage (z2x): the latents have seen more of the image
    than the features that are there.

    Shape: x (B, in_channels, H, W), z (B, N, z_channels) ->
    (B, out_channels, ceil(H / stride), ceil(W / stride)), the size that the
    network itself gives that level.
    """

    def __init__(self, in_channels: int, out_channels: int, z_channels: int,
                 stride: int) -> None:
        super().__init__()
        kernel = max(2 * stride - 1, 3)
        self.down = nn.Sequential(
            nn.Conv2d(
                in_channels,
                in_channels,
                kernel,
                stride,
                padding=kernel // 2,
                groups=in_channels,
                bias=False), nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))
        self.z2x = Z2X(out_channels, z_channels)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """Make the level."""
        return self.z2x(self.down(x), z)


class PyramidFill(nn.Module):
    """All levels that are missing at an exit, one from the other.

    Args:
        source (int): Number of the last feature map that is there.
        missing (Sequence[int]): Numbers of those that are not, ascending.
        channels, strides (Sequence[int]): Those of X_0..X_4.
        z_channels (int): Width of the latents at the exit.
    """

    def __init__(self, source: int, missing: Sequence[int],
                 channels: Sequence[int], strides: Sequence[int],
                 z_channels: int) -> None:
        super().__init__()
        self.missing = tuple(missing)
        above = (source, *self.missing)
        self.levels = nn.ModuleList(
            LevelFill(channels[i], channels[j], z_channels, strides[j] //
                      strides[i]) for i, j in zip(above, self.missing))

    def forward(self, state: TrunkState) -> Dict[int, Tensor]:
        """From the state at the exit: i -> a stand-in for X_i (B, C, H, W)."""
        maps, x = {}, state.x
        for index, level in zip(self.missing, self.levels):
            x = maps[index] = level(x, state.z)
        return maps


class GainHead(nn.Module):
    """Predict from the pooled latents what going deeper would gain.

    The gain is the detection loss of an image that stops at this exit less
    the loss at the last exit. The latents are read, not trained: the policy
    shall not cost accuracy.

    Args:
        channels (int): Width of the latents.
        hidden_channels (int): Width of the hidden layer. Defaults to 64.

    Shape: (B, N, channels) -> (B, 1).
    """

    def __init__(self, channels: int, hidden_channels: int = 64) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.fc1 = nn.Linear(channels, hidden_channels)
        self.fc2 = nn.Linear(hidden_channels, 1)

    def forward(self, z: Tensor) -> Tensor:
        """Predict the gain, in units of the loss."""
        hidden = self.fc1(self.norm(z.detach().mean(1)))
        return self.fc2(F.gelu(hidden))


class DetectionExits(nn.Module):
    """All that exits of a detector have of their own.

    Exits 0 and 1 stand where those of a classifier do, behind the
    classification halves of stages 3 and 4; the last exit is the whole
    network.

    Args:
        channels, strides (Sequence[int]): Those of X_0..X_4.
        levels (Sequence[int]): Which of them the pyramid consists of.
        latent_channels (Sequence[int]): Width of the latents at exits 0 and
            1.
        num_classes (int): Number of classes of the detector.

    Raises:
        ValueError: If there is nothing to skip at an early exit.
    """

    num_exits = 3

    def __init__(self, channels: Sequence[int], strides: Sequence[int],
                 levels: Sequence[int], latent_channels: Sequence[int],
                 num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        # At exit k the feature maps up to X_(k + 2) are there.
        missing = [[i for i in levels if i > k + 2] for k in range(2)]
        if not all(missing):
            raise ValueError(
                f'an early exit saves the deepest levels, so the pyramid must '
                f'hold X_4, got the feature maps {tuple(levels)}: put the '
                f'last level into out_indices')
        self.fills = nn.ModuleList(
            PyramidFill(k +
                        2, missing[k], channels, strides, latent_channels[k])
            for k in range(2))
        self.gains = nn.ModuleList(GainHead(c) for c in latent_channels)
        use_fast_blocks(self)

    def logits(self, index: int, state: TrunkState) -> Tensor:
        """What the policy decides on (B, 1); for no gain, sigmoid is near 1.

        At the last exit, where all leave, it is 0.
        """
        if index == self.num_exits - 1:
            return state.x.new_zeros(len(state.x), 1)
        return -self.gains[index](state.z)

    def fill(self, index: int, state: TrunkState) -> Dict[int, Tensor]:
        """The levels that are missing at an exit; see `PyramidFill`."""
        last = index == self.num_exits - 1
        return {} if last else self.fills[index](state)


def select_state(state: TrunkState, rows: Tensor) -> TrunkState:
    """Keep some samples (B', ) of a state with latents."""
    x, z = state
    assert z is not None
    return TrunkState(x.index_select(0, rows), z.index_select(0, rows))


def merge_rows(first: Dict[int, Tensor], second: Dict[int, Tensor],
               choose: Tensor) -> Dict[int, Tensor]:
    """Levels of each sample: of the first pyramid where ``choose`` (B,)."""
    mask = choose[:, None, None, None]
    return {i: first[i].where(mask, second[i]) for i in first}


def as_tuple(maps: Dict[int, Tensor],
             levels: Sequence[int]) -> Tuple[Tensor, ...]:
    """The levels of a pyramid, fine to coarse."""
    return tuple(maps[i] for i in levels)
