# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The trunks as backbones of MMPretrain."""
from mmpretrain.registry import MODELS

from ..core import ConvTrunk
from ..hosts.trunk_backbone import TrunkBackbone

__all__ = ['ConvBackbone', 'DynPerceiverBackbone']


@MODELS.register_module()
class DynPerceiverBackbone(TrunkBackbone):
    """Two-branch trunk of Dynamic Perceiver (arXiv 2306.11248).

    Args:
        arch, frozen_stages, norm_eval, init_cfg: See
            :class:`~mmdynperceiver.hosts.trunk_backbone.TrunkBackbone`.
        **kwargs: Arguments of :class:`mmdynperceiver.core.Trunk`:
            ``num_latents``, ``width``, ``depth_factor``, ``mlp_ratio``,
            ``drop_path_rate``, the ablation switches and ``exits``.

    Example:
        >>> import torch
        >>> from mmdynperceiver.classification import DynPerceiverBackbone
        >>> backbone = DynPerceiverBackbone('resnet18', width=0.25,
        ...                                 num_latents=16)
        >>> feats = backbone(torch.rand(2, 3, 64, 64))
        >>> [[tuple(v.shape) for v in vectors] for vectors in feats]
        [[(2, 32)], [(2, 64)], [(2, 128)], [(2, 128), (2, 64)]]
    """

    registry = MODELS
    # For vis_cam.py: what precedes the tokens that stand for places.
    num_extra_tokens = 0


@MODELS.register_module()
class ConvBackbone(DynPerceiverBackbone):
    """The feature branch alone: a baseline of the same recipe.

    Args:
        arch, frozen_stages, norm_eval, init_cfg: See
            :class:`~mmdynperceiver.hosts.trunk_backbone.TrunkBackbone`.
        **kwargs: Arguments of :class:`mmdynperceiver.core.ConvTrunk`:
            ``width``, ``drop_path_rate`` and ``exit_stages``, which makes it
            static (the default) or a classic multi-exit network.
    """

    make_trunk = ConvTrunk
