# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The trunks as backbones of MMPretrain."""
from typing import Any, Optional, Tuple

from mmpretrain.registry import MODELS

from ..core import ConvTrunk, Trunk
from ..hosts.feature_branch import build_arch
from ..hosts.trunk_backbone import TrunkBackbone

__all__ = ['ConvBackbone', 'DynPerceiverBackbone']


class _ToolsBackbone(TrunkBackbone):
    """What MMPretrain's tools ask of a backbone."""

    # vis_cam.py: what precedes the tokens that stand for places.
    num_extra_tokens = 0

    @property
    def out_indices(self) -> Tuple[int, ...]:
        """Numbers of the exits, by which vis_tsne.py names its files."""
        return tuple(range(self.net.num_segments))


@MODELS.register_module()
class DynPerceiverBackbone(_ToolsBackbone):
    """Two-branch trunk of Dynamic Perceiver (arXiv 2306.11248).

    Args:
        arch (str | dict): Name of the feature branch, the ``block`` and
            ``depths`` of another ResNet, or the config of any stage-wise
            backbone (see
            :func:`~mmdynperceiver.hosts.feature_branch.build_arch`). Defaults
            to 'regnety-800mf'.
        frozen_stages (int): What to freeze; see
            :class:`~mmdynperceiver.hosts.trunk_backbone.TrunkBackbone`.
            Defaults to -1, nothing.
        norm_eval (bool): Whether batch norms keep their running statistics
            in training. Defaults to False.
        init_cfg (dict, optional): Initialisation config, such as
            ``dict(type='Pretrained', checkpoint=..., prefix='backbone.')``.
            Defaults to None.
        **kwargs: Arguments of :class:`mmdynperceiver.core.Trunk`:
            ``num_latents``, ``width``, ``depth_factor``, ``mlp_ratio``,
            ``drop_path_rate``, the ablation switches and ``exits``.

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
                 arch: Any = 'regnety-800mf',
                 frozen_stages: int = -1,
                 norm_eval: bool = False,
                 init_cfg: Optional[dict] = None,
                 **kwargs: Any) -> None:
        super().__init__(
            Trunk(build_arch(arch, MODELS), **kwargs), frozen_stages,
            norm_eval, init_cfg)


@MODELS.register_module()
class ConvBackbone(_ToolsBackbone):
    """The feature branch alone: a baseline of the same recipe.

    Args:
        arch (str | dict): As for :class:`DynPerceiverBackbone`. Defaults to
            'regnety-800mf'.
        frozen_stages (int): As for :class:`DynPerceiverBackbone`. Defaults
            to -1.
        norm_eval (bool): As for :class:`DynPerceiverBackbone`. Defaults to
            False.
        init_cfg (dict, optional): Initialisation config. Defaults to None.
        **kwargs: Arguments of :class:`mmdynperceiver.core.ConvTrunk`:
            ``width``, ``drop_path_rate`` and ``exit_stages``, which makes it
            static (the default) or a classic multi-exit network.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import torch
        >>> from mmdynperceiver.classification import ConvBackbone
        >>> backbone = ConvBackbone('resnet18', width=0.25)
        >>> feats = backbone(torch.rand(2, 3, 64, 64))
        >>> [[tuple(v.shape) for v in vectors] for vectors in feats]
        [[(2, 128)]]
    """

    def __init__(self,
                 arch: Any = 'regnety-800mf',
                 frozen_stages: int = -1,
                 norm_eval: bool = False,
                 init_cfg: Optional[dict] = None,
                 **kwargs: Any) -> None:
        super().__init__(
            ConvTrunk(build_arch(arch, MODELS), **kwargs), frozen_stages,
            norm_eval, init_cfg)
