# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Dynamic Perceiver for MMAction2.

Importing this registers everything that the video configs name.
"""
from .. import hosts  # noqa: F401  (its hooks and metrics register)
from .backbone import DynPerceiverTSM
from .datasets import (BrokenVideoError, CheckedRawframeDataset,
                       CheckedVideoDataset, RequireFrames)
from .frame_exit import FrameExitBackbone, FrameExitHead, FrameExitRecognizer
from .head import DynPerceiverTSMHead
from .lazy_video import LazyVideo
from .recognizer import DynPerceiverRecognizer
from .shift import ShiftedConv2d, insert_shift

__all__ = [
    'BrokenVideoError', 'CheckedRawframeDataset', 'CheckedVideoDataset',
    'DynPerceiverRecognizer', 'DynPerceiverTSM', 'DynPerceiverTSMHead',
    'FrameExitBackbone', 'FrameExitHead', 'FrameExitRecognizer', 'LazyVideo',
    'RequireFrames', 'ShiftedConv2d', 'insert_shift'
]
