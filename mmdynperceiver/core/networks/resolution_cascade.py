# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Images small at first, and larger only where that is needed."""
import math
from typing import Any, Iterator, List, Sequence, Tuple

import torch.nn.functional as F
from torch import Tensor, nn

from ..feature_branch import FeatureBranch
from ..segments import SegmentedTrunk, TrunkState
from .layers import pooled

__all__ = ['ResolutionCascade']


class ResolutionCascade(SegmentedTrunk):
    """Networks that see an image at rising resolutions, an exit behind each.

    The images come in the size of the last network; those before see them
    reduced. Whoever is not sure at one size is looked at anew in
    the next, so the work of the sizes adds up.

    Args:
        branches (Sequence[FeatureBranch]): One for each size, small to
            large; each sees that size alone. Or a single one that sees all.
        scales (Sequence[float]): Height and width of each size over those of
            the images, rising to 1. Defaults to (1 / 2, 5 / 7, 1): of 224
            pixels 112, 160 and 224.

    Raises:
        ValueError: If they do not fit each other.

    Example:
        >>> from mmdynperceiver.core import build_feature_branch
        >>> branches = [build_feature_branch('resnet18', 0.25)
        ...             for _ in range(3)]
        >>> trunk = ResolutionCascade(branches)
        >>> trunk.sizes((224, 224))
        [(112, 112), (160, 160), (224, 224)]
    """

    def __init__(
        self,
        branches: Sequence[FeatureBranch],
        scales: Sequence[float] = (1 / 2, 5 / 7, 1)
    ) -> None:
        scales = tuple(scales)
        if not scales or scales[-1] != 1 or not all(
                0 < one < other for one, other in zip(scales, scales[1:])):
            raise ValueError(f'scales must rise from above 0 to 1, got '
                             f'{scales!r}')
        if len(branches) not in (1, len(scales)):
            raise ValueError(f'there must be one branch for all, or one for '
                             f'each of the {len(scales)} scales, got '
                             f'{len(branches)}')
        last = branches[-1]
        per_scale = [
            branches[min(k,
                         len(branches) - 1)] for k in range(len(scales))
        ]
        super().__init__('x' * len(scales),
                         [(branch.channels[-1], ) for branch in per_scale])
        self.scales = scales
        self.hidden_channels = last.hidden_channels
        self.dropout = last.dropout
        self.head_init_std = last.head_init_std
        self.stem_stride = last.strides[0]
        # Of an image that is at least as large, the smallest view is, too.
        self.min_size = max(
            math.ceil(max(branch.strides) / scale)
            for branch, scale in zip(per_scale, scales))
        self.networks = nn.ModuleList(
            nn.Sequential(branch.stem, *branch.stages) for branch in branches)
        self._init_branches = [branch.init_weights for branch in branches]

    def init_weights(self) -> None:
        """Initialise the networks as the packages they come from do, when
        mmengine says so before a training."""
        for init in self._init_branches:
            if init is not None:
                init()

    def sizes(self, image_size: Sequence[int]) -> List[Tuple[int, int]]:
        """Height and width at each scale, of images of a size."""
        height, width = image_size
        return [(round(height * scale), round(width * scale))
                for scale in self.scales]

    def foldable_parts(self) -> Iterator[Tuple[nn.Module, str]]:
        """The networks."""
        return ((self.networks, str(k)) for k in range(len(self.networks)))

    def run_segment(
            self, index: int,
            state: TrunkState) -> Tuple[TrunkState, Tuple[Tensor, ...]]:
        """Look at the images at one scale; they are what is handed on."""
        images = state.x
        size = self.sizes([int(length) for length in images.shape[2:]])[index]
        view = images if self.scales[index] == 1 else shrink(images, size)
        network: Any = self.networks[min(index, len(self.networks) - 1)]
        return state, pooled(network(view))


def shrink(images: Tensor, size: Sequence[int]) -> Tensor:
    """Images at a smaller size (h, w): averages of cells that divide them,
    otherwise between the nearest pixels."""
    # Numbers, in a trace too.
    height, width = map(int, images.shape[2:])
    if height % size[0] == 0 and width % size[1] == 0:
        return F.avg_pool2d(images, (height // size[0], width // size[1]))
    return F.interpolate(
        images, tuple(size), mode='bilinear', align_corners=False)
