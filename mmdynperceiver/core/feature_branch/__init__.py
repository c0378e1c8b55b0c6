# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Convolutional networks that serve as the feature branch."""
from typing import Any, Mapping, Optional, Tuple, Union

from ..accelerate.onednn_workaround import avoid_onednn_overrun
from .base import FeatureBranch
from .mobilenet_v3 import mobilenetv3_large
from .regnet import REGNETY_ARCHS, regnety
from .resnet import RESNET_ARCHS, resnet
from .split import feature_branch_from_stages, split_backbone
from .torchvision_nets import PREFIX, torchvision_archs, torchvision_branch

__all__ = [
    'FeatureBranch', 'available_archs', 'build_feature_branch',
    'feature_branch_from_stages', 'split_backbone', 'torchvision_archs'
]

_MOBILENET = 'mobilenetv3-large'


def available_archs() -> Tuple[str, ...]:
    """Names that ``build_feature_branch`` knows."""
    return (*REGNETY_ARCHS, *RESNET_ARCHS, _MOBILENET)


def build_feature_branch(
        arch: Union[str, Mapping[str, Any], FeatureBranch],
        width: float = 1.,
        drop_path_rate: Optional[float] = None) -> FeatureBranch:
    """Build a feature branch, its narrow convolutions safe to train.

    Args:
        arch (str | Mapping | FeatureBranch): One of ``available_archs()``,
            'torchvision.' and the name of one of its networks (see
            ``torchvision_archs()``), or ``block`` ('basic' or 'bottleneck'),
            ``depths`` (blocks of each stage) and, if it is not ImageNet's,
            ``stem_stride`` (1 or 2) of another ResNet, or a ready branch.
        width (float): Width factor of ResNet and MobileNet-v3 branches.
            Defaults to 1.
        drop_path_rate (float, optional): Stochastic depth of ResNet
            branches. Defaults to None, the published 0.2.

    Raises:
        ValueError: If the name is unknown, the width is not positive, or a
            factor is given that the family does not have.
    """
    branch = _build(arch, width, drop_path_rate)
    branch.stem = avoid_onednn_overrun(branch.stem)
    branch.stages = tuple(map(avoid_onednn_overrun, branch.stages))
    return branch


def _build(arch: Union[str, Mapping[str, Any], FeatureBranch], width: float,
           drop_path_rate: Optional[float]) -> FeatureBranch:
    """Build the branch as its package does."""
    if isinstance(arch, FeatureBranch) or \
            isinstance(arch, str) and arch.startswith(PREFIX):
        if width != 1 or drop_path_rate is not None:
            raise ValueError(
                f'width and drop_path_rate are not for a backbone of another '
                f'package, which has its own options, got width={width!r} and '
                f'drop_path_rate={drop_path_rate!r}: leave them out')
        return torchvision_branch(arch) if isinstance(arch, str) else arch
    if isinstance(arch, str) and arch not in available_archs():
        raise ValueError(f'unknown arch: got {arch!r}, expected one of '
                         f'{", ".join(available_archs())}, or {PREFIX}NAME')
    blocks: Optional[Mapping[str, Any]] = \
        RESNET_ARCHS.get(arch) if isinstance(arch, str) else arch
    if blocks is not None and not {'block', 'depths'} <= set(
            blocks) <= {'block', 'depths', 'stem_stride'}:
        raise ValueError(f'arch must be a name or hold the keys block, depths '
                         f'and, if you like, stem_stride, got {blocks!r}')
    _check_factors(width, drop_path_rate)
    if blocks is not None:
        rate = 0.2 if drop_path_rate is None else drop_path_rate
        branch = resnet(**blocks, width=width, drop_path_rate=rate)
        if isinstance(arch, str) and width == 1:
            branch.torchvision = arch
        return branch
    if drop_path_rate is not None:
        raise ValueError(f'drop_path_rate is for ResNet feature branches, got '
                         f'{drop_path_rate!r} for {arch!r}: leave it out')
    if arch in REGNETY_ARCHS:
        if width != 1:
            raise ValueError(
                f'RegNet-Y has no width factor, got width={width!r}: pick '
                f'another size among {", ".join(REGNETY_ARCHS)}')
        return regnety(arch)
    return mobilenetv3_large(width)


def _check_factors(width: float, drop_path_rate: Optional[float]) -> None:
    """Refuse factors that no family has."""
    if not width > 0:
        raise ValueError(f'width must be a positive factor, got {width!r}')
    if drop_path_rate is not None and not 0 <= drop_path_rate < 1:
        raise ValueError(
            f'drop_path_rate must be in [0, 1), got {drop_path_rate!r}')
