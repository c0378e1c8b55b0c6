# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Dynamic networks of other families, in segments as Dyn-Perceiver is."""
from .conv_aig import ConvAIG
from .frame_exit import FrameExit
from .msdnet import MSDNet
from .ranet import RANet
from .resolution_cascade import ResolutionCascade
from .skipnet import SkipNet

__all__ = [
    'ConvAIG', 'FrameExit', 'MSDNet', 'RANet', 'ResolutionCascade', 'SkipNet'
]
