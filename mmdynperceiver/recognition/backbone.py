# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The trunk with temporal shift as a backbone of MMAction2."""
from typing import Any, Iterator, Union

from mmaction.registry import MODELS
from torch import nn

from ..core import FeatureBranch
from ..hosts.trunk_backbone import TrunkBackbone
from .shift import insert_shift

__all__ = ['DynPerceiverTSM']


@MODELS.register_module()
class DynPerceiverTSM(TrunkBackbone):
    """Two-branch trunk whose feature branch shifts between frames.

    The classification branch sees each frame alone; what it reads from the
    features has come from the neighbouring frames. A shift costs no MACs.

    Args:
        arch (str | dict): As for
            :class:`~mmdynperceiver.hosts.trunk_backbone.TrunkBackbone`, of a
            ResNet, RegNet-Y or MobileNet-v3. Defaults to 'resnet50'.
        num_segments (int): Frames of a clip. Defaults to 8.
        is_shift (bool): Whether to shift; without, the frames meet only
            where their logits are averaged. Defaults to True.
        shift_div (int): One of so many channels comes from the next frame,
            and one from the frame before. Defaults to 8.
        partial_bn (bool): Whether all batch norms of the feature branch but
            the first keep their statistics and weights in training. Defaults
            to False.
        frozen_stages, norm_eval, init_cfg: As for the same; the checkpoint
            may be that of an image classifier.
        **kwargs: Arguments of :class:`mmdynperceiver.core.Trunk`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import torch
        >>> from mmdynperceiver.recognition import DynPerceiverTSM
        >>> backbone = DynPerceiverTSM('resnet18', width=0.25, num_latents=16)
        >>> feats = backbone(torch.rand(2 * 8, 3, 64, 64))
        >>> [[tuple(v.shape) for v in vectors] for vectors in feats]
        [[(16, 32)], [(16, 64)], [(16, 128)], [(16, 128), (16, 64)]]
    """

    registry = MODELS

    def __init__(self,
                 arch: Union[str, dict, FeatureBranch] = 'resnet50',
                 num_segments: int = 8,
                 is_shift: bool = True,
                 shift_div: int = 8,
                 partial_bn: bool = False,
                 **kwargs: Any) -> None:
        super().__init__(arch, **kwargs)
        if is_shift:
            insert_shift(self.net, num_segments, shift_div)
        self.num_segments = num_segments
        self.partial_bn = partial_bn
        for norm in self._fixed_norms():
            norm.requires_grad_(False)

    def _fixed_norms(self) -> Iterator[nn.Module]:
        """Yield the batch norms that ``partial_bn`` freezes."""
        if self.partial_bn:
            # The classification branch has layer norms only.
            norms = (
                module for module in self.net.modules()
                if isinstance(module, nn.modules.batchnorm._BatchNorm))
            next(norms)
            yield from norms

    def train(self, mode: bool = True) -> 'DynPerceiverTSM':
        """Set the mode; what is frozen stays in eval mode."""
        super().train(mode)
        if mode:
            for norm in self._fixed_norms():
                norm.eval()
        return self
