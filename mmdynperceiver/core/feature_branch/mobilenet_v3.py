# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""MobileNet-v3-large feature branches, built from torchvision's blocks."""
from torch import nn
from torchvision import models

from .base import FeatureBranch

__all__ = ['mobilenetv3_large']

# The last layer of each part in torchvision's list of layers: the stem is
# the first convolution and two blocks; stage 4 ends with the 1x1 convolution.
_PART_ENDS = (3, 5, 8, 14, 17)


def mobilenetv3_large(width: float = 1.) -> FeatureBranch:
    """Build a MobileNet-v3-large feature branch of strides 4, 8, 16, 32, 32.

    Channels times ``width`` are rounded to multiples of 8 as in torchvision.
    """
    net = models.mobilenet_v3_large(width_mult=width)
    layers = list(net.features)
    parts = [
        nn.Sequential(*layers[start:end])
        for start, end in zip((0, *_PART_ENDS), _PART_ENDS)
    ]
    channels = tuple(layers[end - 1].out_channels for end in _PART_ENDS)
    return FeatureBranch(
        stem=parts[0],
        stages=tuple(parts[1:]),
        channels=channels,
        strides=(4, 8, 16, 32, 32),
        depth_factor=(1, 1, 1, 3),
        hidden_channels=net.classifier[0].out_features,
        dropout=0.2,
        torchvision='mobilenet_v3_large' if width == 1 else None)
