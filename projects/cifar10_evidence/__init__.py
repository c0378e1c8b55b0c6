# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Accuracy against milliseconds, of one pretrained trunk in five networks."""
from mmpretrain.models import MobileNetV2
from mmpretrain.registry import MODELS

__all__ = ['ShallowMobileNetV2']


@MODELS.register_module()
class ShallowMobileNetV2(MobileNetV2):
    """MobileNet-V2 without the last one or two blocks of the stages.

    The blocks that stay have their names, and so their pretrained weights.
    """

    # Expansion, channels, number of blocks, stride.
    arch_settings = [[1, 16, 1, 1], [6, 24, 1, 2], [6, 32, 2, 2],
                     [6, 64, 2, 2], [6, 96, 1, 1], [6, 160, 2, 2],
                     [6, 320, 1, 1]]
