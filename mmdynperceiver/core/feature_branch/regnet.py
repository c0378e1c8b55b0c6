# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""RegNet-Y feature branches, built from torchvision's blocks."""
from torchvision import models

from .base import FeatureBranch

__all__ = ['REGNETY_ARCHS', 'regnety']

REGNETY_ARCHS = {
    'regnety-400mf': models.regnet_y_400mf,
    'regnety-800mf': models.regnet_y_800mf,
    'regnety-1600mf': models.regnet_y_1_6gf,
    'regnety-3200mf': models.regnet_y_3_2gf,
}


def regnety(arch: str) -> FeatureBranch:
    """Build a RegNet-Y feature branch of strides 2, 4, 8, 16, 32."""
    net = REGNETY_ARCHS[arch]()
    stages = tuple(net.trunk_output.children())
    channels = (net.stem[0].out_channels, *(stage[-1].f.c[0].out_channels
                                            for stage in stages))
    return FeatureBranch(
        stem=net.stem,
        stages=stages,
        channels=channels,
        strides=(2, 4, 8, 16, 32),
        depth_factor=(1, 1, 1, 2),
        head_init_std=0.01,
        torchvision=REGNETY_ARCHS[arch].__name__)
