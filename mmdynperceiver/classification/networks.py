# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Networks of other families as backbones of MMPretrain."""
from mmpretrain.registry import MODELS

from ..core.networks import MSDNet
from ..hosts.trunk_backbone import SegmentedBackbone

__all__ = ['MSDNetBackbone']


@MODELS.register_module()
class MSDNetBackbone(SegmentedBackbone):
    """Multi-scale dense network (arXiv 1703.09844).

    Args:
        norm_eval, init_cfg: See
            :class:`~mmdynperceiver.hosts.trunk_backbone.SegmentedBackbone`.
        **kwargs: Arguments of :class:`mmdynperceiver.core.networks.MSDNet`.

    Example:
        >>> import torch
        >>> from mmdynperceiver.classification import MSDNetBackbone
        >>> backbone = MSDNetBackbone(num_exits=2, base=1, step=1, growth=2)
        >>> feats = backbone(torch.rand(2, 3, 64, 64))
        >>> [[tuple(v.shape) for v in vectors] for vectors in feats]
        [[(2, 136)], [(2, 68)]]
    """

    make_trunk = MSDNet
