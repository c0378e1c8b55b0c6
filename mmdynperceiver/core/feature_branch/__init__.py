# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Convolutional networks that serve as the feature branch."""
from typing import Optional, Tuple

from .base import FeatureBranch
from .mobilenet_v3 import mobilenetv3_large
from .regnet import REGNETY_ARCHS, regnety
from .resnet import RESNET_ARCHS, resnet

__all__ = ['FeatureBranch', 'available_archs', 'build_feature_branch']

_MOBILENET = 'mobilenetv3-large'


def available_archs() -> Tuple[str, ...]:
    """Names that ``build_feature_branch`` knows."""
    return (*REGNETY_ARCHS, *RESNET_ARCHS, _MOBILENET)


def build_feature_branch(
        arch: str,
        width: float = 1.,
        drop_path_rate: Optional[float] = None) -> FeatureBranch:
    """Build a feature branch by name.

    Args:
        arch (str): One of ``available_archs()``.
        width (float): Width factor of ResNet and MobileNet-v3 branches.
            Defaults to 1.
        drop_path_rate (float, optional): Stochastic depth of ResNet
            branches. Defaults to None, the published 0.2.

    Returns:
        FeatureBranch: The stem, the four stages and what they declare.

    Raises:
        ValueError: If the name is unknown, the width is not positive, or a
            factor is given that the family does not have.
    """
    if arch not in available_archs():
        raise ValueError(f'unknown arch: got {arch!r}, expected one of '
                         f'{", ".join(available_archs())}')
    if not width > 0:
        raise ValueError(f'width must be a positive factor, got {width!r}')
    if drop_path_rate is not None and not 0 <= drop_path_rate < 1:
        raise ValueError(
            f'drop_path_rate must be in [0, 1), got {drop_path_rate!r}')
    if drop_path_rate is not None and arch not in RESNET_ARCHS:
        raise ValueError(f'drop_path_rate is for ResNet feature branches, got '
                         f'{drop_path_rate!r} for {arch!r}: leave it out')
    if arch in REGNETY_ARCHS:
        if width != 1:
            raise ValueError(
                f'RegNet-Y has no width factor, got width={width!r}: pick '
                f'another size among {", ".join(REGNETY_ARCHS)}')
        return regnety(arch)
    if arch in RESNET_ARCHS:
        rate = 0.2 if drop_path_rate is None else drop_path_rate
        return resnet(arch, width, rate)
    return mobilenetv3_large(width)
