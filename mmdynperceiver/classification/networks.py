# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Networks of other families as backbones of MMPretrain."""
from typing import Any, Optional, Sequence

from mmpretrain.registry import MODELS

from ..core import SegmentedTrunk, build_feature_branch
from ..core.networks import ConvAIG, MSDNet, RANet, ResolutionCascade, SkipNet
from ..hosts.feature_branch import build_arch
from ..hosts.trunk_backbone import SegmentedBackbone

__all__ = [
    'ConvAIGBackbone', 'MSDNetBackbone', 'RANetBackbone',
    'ResolutionCascadeBackbone', 'SkipNetBackbone'
]


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


@MODELS.register_module()
class RANetBackbone(SegmentedBackbone):
    """Resolution adaptive network (arXiv 2003.07326).

    Args:
        norm_eval, init_cfg: See
            :class:`~mmdynperceiver.hosts.trunk_backbone.SegmentedBackbone`.
        **kwargs: Arguments of :class:`mmdynperceiver.core.networks.RANet`.

    Example:
        >>> import torch
        >>> from mmdynperceiver.classification import RANetBackbone
        >>> backbone = RANetBackbone(scales=(1, 2), num_blocks=1, step=2,
        ...     growth_factors=(2, 1), bottleneck_factors=(2, 1))
        >>> feats = backbone(torch.rand(2, 3, 64, 64))
        >>> [[tuple(v.shape) for v in vectors] for vectors in feats]
        [[(2, 128)], [(2, 80)], [(2, 112)]]
    """

    make_trunk = RANet


@MODELS.register_module()
class ResolutionCascadeBackbone(SegmentedBackbone):
    """Any backbones, or one, at rising resolutions.

    Args:
        arch (str | dict | Sequence): As of :class:`DynPerceiverBackbone`, the
            same for all scales, or one for each.
        scales (Sequence[float]): As of
            :class:`~mmdynperceiver.core.networks.ResolutionCascade`.
        shared (bool): Whether one network sees all scales. Defaults to
            False, a network for each.
        width, drop_path_rate: As of
            :func:`~mmdynperceiver.core.build_feature_branch`.
        norm_eval, init_cfg: See
            :class:`~mmdynperceiver.hosts.trunk_backbone.SegmentedBackbone`.

    Example:
        >>> import torch
        >>> from mmdynperceiver.classification import ResolutionCascadeBackbone
        >>> backbone = ResolutionCascadeBackbone('resnet18', width=0.25)
        >>> feats = backbone(torch.rand(2, 3, 64, 64))
        >>> [[tuple(v.shape) for v in vectors] for vectors in feats]
        [[(2, 128)], [(2, 128)], [(2, 128)]]
    """

    @staticmethod
    def make_trunk(arch: Any,
                   scales: Sequence[float] = (1 / 2, 5 / 7, 1),
                   shared: bool = False,
                   width: float = 1.,
                   drop_path_rate: Optional[float] = None) -> SegmentedTrunk:
        """The trunk of a backbone for each scale, or of a shared one."""
        archs = arch if isinstance(arch, (list, tuple)) else \
            [arch] * (1 if shared else len(scales))
        return ResolutionCascade([
            build_feature_branch(
                build_arch(one, MODELS), width, drop_path_rate)
            for one in archs
        ], scales)


@MODELS.register_module()
class ConvAIGBackbone(SegmentedBackbone):
    """A ResNet whose blocks are skipped image by image (arXiv 1711.11503).

    For :class:`SkippingClassifier`, which holds the rate and tells the MACs.

    Args:
        arch (str | dict): A ResNet by its name, or its ``block`` and
            ``depths``.
        target_rate (float): As of
            :class:`~mmdynperceiver.core.networks.ConvAIG`.
        width, drop_path_rate: As of
            :func:`~mmdynperceiver.core.build_feature_branch`; the second
            defaults to 0.
        norm_eval, init_cfg: See
            :class:`~mmdynperceiver.hosts.trunk_backbone.SegmentedBackbone`.

    Example:
        >>> import torch
        >>> from mmdynperceiver.classification import ConvAIGBackbone
        >>> backbone = ConvAIGBackbone('resnet18', width=0.25)
        >>> [[tuple(v.shape) for v in f] for f in
        ...  backbone(torch.rand(2, 3, 64, 64))]
        [[(2, 128)]]
    """

    @staticmethod
    def make_trunk(arch: Any,
                   target_rate: float = 0.6,
                   width: float = 1.,
                   drop_path_rate: float = 0.) -> SegmentedTrunk:
        """The trunk, of a ResNet."""
        branch = build_feature_branch(arch, width, drop_path_rate)
        return ConvAIG(branch, target_rate)


@MODELS.register_module()
class SkipNetBackbone(SegmentedBackbone):
    """A ResNet whose gates learn when to skip a block (arXiv 1711.09485).

    For :class:`SkippingClassifier`, which puts a price on running blocks, and
    :class:`SoftGatesHook`.

    Args:
        arch (str | dict): A ResNet by its name, or its ``block`` and
            ``depths``.
        gate (str): As of :class:`~mmdynperceiver.core.networks.SkipNet`.
        width, drop_path_rate: As of
            :func:`~mmdynperceiver.core.build_feature_branch`; the second
            defaults to 0.
        norm_eval, init_cfg: See
            :class:`~mmdynperceiver.hosts.trunk_backbone.SegmentedBackbone`.

    Example:
        >>> import torch
        >>> from mmdynperceiver.classification import SkipNetBackbone
        >>> backbone = SkipNetBackbone('resnet18', width=0.25)
        >>> [[tuple(v.shape) for v in f] for f in
        ...  backbone(torch.rand(2, 3, 64, 64))]
        [[(2, 128)]]
    """

    @staticmethod
    def make_trunk(arch: Any,
                   gate: str = 'rnn',
                   width: float = 1.,
                   drop_path_rate: float = 0.) -> SegmentedTrunk:
        """The trunk, of a ResNet."""
        branch = build_feature_branch(arch, width, drop_path_rate)
        return SkipNet(branch, gate)
