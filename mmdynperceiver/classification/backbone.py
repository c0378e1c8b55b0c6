# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The trunk as a backbone of MMPretrain."""
from typing import Any, Iterator, Optional, Tuple

from mmpretrain.models.backbones.base_backbone import BaseBackbone
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..core import Trunk

__all__ = ['DynPerceiverBackbone']


@MODELS.register_module()
class DynPerceiverBackbone(BaseBackbone):
    """Two-branch trunk of Dynamic Perceiver (arXiv 2306.11248).

    Args:
        arch (str): Name of the feature branch. Defaults to 'regnety-800mf'.
        frozen_stages (int): What to freeze (no gradient, eval mode): -1
            nothing, 0 the stem and the initial latents, k these and the
            first k stages. Defaults to -1.
        norm_eval (bool): Whether batch norms keep their running statistics
            in training. Defaults to False.
        init_cfg (dict, optional): Initialisation config, such as
            ``dict(type='Pretrained', checkpoint=..., prefix='backbone.')``.
            Defaults to None.
        **kwargs: Arguments of :class:`mmdynperceiver.core.Trunk`:
            ``num_latents``, ``width``, ``depth_factor``, ``mlp_ratio``,
            ``drop_path_rate`` and the ablation switches.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import torch
        >>> from mmdynperceiver.classification import DynPerceiverBackbone
        >>> backbone = DynPerceiverBackbone('resnet18', width=0.25,
        ...                                 num_latents=16)
        >>> feats = backbone(torch.rand(2, 3, 64, 64))
        >>> [[tuple(v.shape) for v in vectors] for vectors in feats]
        [[(2, 32)], [(2, 64)], [(2, 128)], [(2, 128), (2, 64)]]
    """

    def __init__(self,
                 arch: str = 'regnety-800mf',
                 frozen_stages: int = -1,
                 norm_eval: bool = False,
                 init_cfg: Optional[dict] = None,
                 **kwargs: Any) -> None:
        super().__init__(init_cfg=init_cfg)
        if not isinstance(frozen_stages, int) or not -1 <= frozen_stages <= 4:
            raise ValueError(f'frozen_stages must be one of -1 (none) to 4 '
                             f'(all), got {frozen_stages!r}')
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.net = Trunk(arch, **kwargs)
        for module in self._frozen_modules():
            module.requires_grad_(False)
        self.net.latents.requires_grad_(frozen_stages < 0)

    def _frozen_modules(self) -> Iterator[nn.Module]:
        """Yield the modules that ``frozen_stages`` freezes."""
        if self.frozen_stages >= 0:
            yield self.net.stem
            yield from self.net.stages[:self.frozen_stages]

    def train(self, mode: bool = True) -> 'DynPerceiverBackbone':
        """Set the mode; what is frozen stays in eval mode."""
        super().train(mode)
        if mode:
            for module in self._frozen_modules():
                module.eval()
            if self.norm_eval:
                for module in self.net.modules():
                    if isinstance(module, _BatchNorm):
                        module.eval()
        return self

    def forward(self, images: Tensor) -> Tuple[Tuple[Tensor, ...], ...]:
        """Run all segments.

        Args:
            images (Tensor): Normalised images (B, 3, H, W).

        Returns:
            tuple: For each exit, the pooled vectors (B, C) that it
            classifies.
        """
        return self.net(images)
