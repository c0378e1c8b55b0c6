# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The trunks as backbones of MMDetection: a feature pyramid."""
from typing import Any, Dict, Optional, Sequence, Tuple, Union

from mmdet.registry import MODELS
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..core import ConvTrunk, FeatureBranch, Trunk, count_macs
from ..core.segments import Half, StagedTrunk, TrunkState
from ..hosts.trunk_backbone import TrunkBackbone

__all__ = ['DynPerceiverDetBackbone']

# Strides of the levels that necks are made for.
PYRAMID_STRIDES = (4, 8, 16, 32)
BRANCHES = {'both': Trunk, 'feature': ConvTrunk}


@MODELS.register_module()
class DynPerceiverDetBackbone(TrunkBackbone):
    """Feature maps of Dynamic Perceiver for a neck (arXiv 2306.11248).

    A level of the pyramid is the feature map x behind the feature half of a
    stage, after its z2x. What no level needs is neither run nor trained; its
    weights stay, so that a trunk trained for images fits as it is.

    Args:
        arch, frozen_stages, norm_eval, init_cfg: See
            :class:`~mmdynperceiver.hosts.trunk_backbone.TrunkBackbone`.
        branches (str): 'both', or 'feature' for the feature branch alone:
            the static network to compare with. Defaults to 'both'.
        out_indices (Sequence[int]): Which levels to return: 0 to 3 have the
            strides 4, 8, 16 and 32. Where two feature maps have one stride
            (MobileNet-v3), the deeper one counts. Defaults to
            ``(0, 1, 2, 3)``.
        with_cp (bool): Whether training computes each half stage again in
            the backward pass instead of keeping what is inside. Batch norms
            then count each batch twice, unless ``norm_eval`` is set.
            Defaults to False.
        **kwargs: Arguments of :class:`mmdynperceiver.core.Trunk` (such as
            ``num_latents`` and ``last_z2x``) or, for the feature branch
            alone, of :class:`mmdynperceiver.core.ConvTrunk`.

    Attributes:
        level_maps (tuple[int]): Which of the maps X_0..X_4 each returned
            level is.
        out_channels (tuple[int]): Channels of each returned level.
        out_strides (tuple[int]): Strides of each returned level.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import torch
        >>> from mmdynperceiver.detection import DynPerceiverDetBackbone
        >>> backbone = DynPerceiverDetBackbone('resnet18', width=0.25,
        ...                                    num_latents=16)
        >>> [tuple(x.shape[1:]) for x in backbone(torch.rand(1, 3, 64, 96))]
        [(16, 16, 24), (32, 8, 12), (64, 4, 6), (128, 2, 3)]
    """

    registry = MODELS

    @staticmethod
    def make_trunk(arch: Union[str, dict, FeatureBranch], branches: str,
                   **kwargs: Any) -> StagedTrunk:
        """The trunk, or the feature branch alone."""
        if branches not in BRANCHES:
            raise ValueError(f'branches must be one of {", ".join(BRANCHES)}, '
                             f'got {branches!r}')
        return BRANCHES[branches](arch, **kwargs)

    def __init__(self,
                 arch: Union[str, dict, FeatureBranch] = 'regnety-800mf',
                 branches: str = 'both',
                 out_indices: Sequence[int] = (0, 1, 2, 3),
                 with_cp: bool = False,
                 **kwargs: Any) -> None:
        super().__init__(arch, branches=branches, **kwargs)
        net = self.net
        self.with_cp = with_cp
        self.level_maps = _level_maps(net.strides, out_indices)
        self.out_channels = tuple(net.channels[i] for i in self.level_maps)
        self.out_strides = tuple(net.strides[i] for i in self.level_maps)
        self._needed = _needed_halves(net, max(self.level_maps))
        self._freeze_unused()

    def _freeze_unused(self) -> None:
        """Take from training what no level needs."""
        unused = []
        for index, stage in enumerate(self.net.stages):
            if Half('extract', index) not in self._needed:
                unused.append(stage)
            elif Half('classify', index) not in self._needed:
                unused += [getattr(stage, k, None) for k in ('x2z', 'blocks')]
        if self._needed[-1].kind != 'last_z2x':
            unused.append(getattr(self.net, 'last_z2x', None))
        for part in unused:
            if part is not None:
                part.requires_grad_(False)

    def advance(self, halves: Sequence[Half],
                state: TrunkState) -> Tuple[TrunkState, Dict[int, Tensor]]:
        """Run halves in their order, and keep the maps that they finish.

        Returns:
            tuple: The new state, and i -> X_i (B, C, H, W).
        """
        run = self.net.run_halves
        if self.with_cp and self.training:
            run = self._run_again
        state, after = run(tuple(halves), state)
        if self.net.dtype is not None:
            # Necks and heads stay in single precision.
            after = tuple(x.float() for x in after)
        return state, {
            0 if half.kind == 'stem' else half.stage + 1: x
            for half, x in zip(halves, after) if half.kind != 'classify'
        }

    def _run_again(self, halves: Sequence[Half],
                   state: TrunkState) -> Tuple[TrunkState, Tuple[Tensor, ...]]:
        """Run halves without keeping what is inside of them."""
        after = []
        for half in halves:

            def run(x: Tensor,
                    z: Optional[Tensor],
                    half: Half = half) -> TrunkState:
                return self.net.run_half(half, TrunkState(x, z))

            state = TrunkState(*checkpoint(run, *state, use_reentrant=False))
            after.append(state.x)
        return state, tuple(after)

    def forward(self, images: Tensor) -> Tuple[Tensor, ...]:
        """The levels (B, C, h, w), fine to coarse, stored channels first.

        Images (B, 3, H, W) may have any size from the largest stride on.
        """
        _, maps = self.advance(self._needed, self.net.initial_state(images))
        # mmcv's operators, such as RoIAlign, read any map as if it were
        # stored so.
        return tuple(maps[i].contiguous() for i in self.level_maps)

    def macs_per_exit(
        self, input_shape: Sequence[int] = (3, 800, 1280)) -> Tuple[int, ...]:
        """MACs of one image (3, H, W), of the backbone alone: one count."""
        return count_macs(self, lambda backbone, images: [backbone(images)],
                          input_shape)


def _level_maps(strides: Sequence[int],
                out_indices: Sequence[int]) -> Tuple[int, ...]:
    """Which feature map each returned level is."""
    deepest = {stride: index for index, stride in enumerate(strides)}
    available = [deepest[s] for s in PYRAMID_STRIDES if s in deepest]
    indices = tuple(out_indices)
    if not indices or list(indices) != sorted(
            set(indices) & set(range(len(available)))):
        raise ValueError(
            f'out_indices must rise within 0 to {len(available) - 1} (the '
            f'levels of strides {[strides[i] for i in available]}), got '
            f'{out_indices!r}')
    return tuple(available[i] for i in indices)


def _needed_halves(net: StagedTrunk, deepest: int) -> Tuple[Half, ...]:
    """The halves without which no level comes about, in their order."""
    chain = [half for k in range(net.num_segments) for half in net.halves(k)]
    needed, latents_read = [], False
    for half in reversed(chain):
        if half.kind == 'classify':
            used = latents_read
        elif half.kind == 'last_z2x':
            used = deepest == 4 and net.last_z2x is not None
            latents_read |= used
        else:
            used = half.kind == 'stem' or half.stage < deepest
            latents_read |= used and half.kind == 'extract' and \
                getattr(net.stages[half.stage], 'z2x', None) is not None
        if used:
            needed.append(half)
    return tuple(reversed(needed))
