# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""How feature maps are stored."""
import math

import torch
from torch import Tensor

__all__ = ['to_fast_layout']

# Places of the largest map of a batch. Batch norms on CPUs add up channels
# last maps in single precision, one place after the other (torch 2.11): with
# more places a channel's scale is off by more than 1e-4.
_MOST_PLACES = 2**19


def to_fast_layout(images: Tensor, training: bool, stride: int) -> Tensor:
    """Images (B, 3, H, W) in the layout that the network, whose stem has a
    stride, is to run in.

    Channels last, tokens are a view of a map, and convolutions keep it; on
    CPUs they are faster in it too. In training it is for CPUs only (see
    SubsampledConv2d for what is not sound there), and only where batch norms
    do not lose precision by it.
    """
    if images.device.type != 'cpu':
        channels_last = not (training or images.requires_grad)
    else:
        places = len(images) * math.prod(size // min(2, stride)
                                         for size in images.shape[2:])
        channels_last = not training or places <= _MOST_PLACES
    if channels_last:
        return images.contiguous(memory_format=torch.channels_last)
    return images
