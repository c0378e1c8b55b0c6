# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Dynamic Perceiver for MMDetection.

Importing this registers everything that the detection configs name.
"""
from .. import hosts  # noqa: F401  (its hooks and metrics register)
from .backbone import DynPerceiverDetBackbone
from .datasets import CheckedCocoDataset
from .detector import DynPerceiverDetector
from .metrics import CheckedCocoMetric, EarlyExitCocoMetric
from .pyramid import DetectionExits, GainHead, LevelFill, PyramidFill

__all__ = [
    'CheckedCocoDataset', 'CheckedCocoMetric', 'DetectionExits',
    'DynPerceiverDetBackbone', 'DynPerceiverDetector', 'EarlyExitCocoMetric',
    'GainHead', 'LevelFill', 'PyramidFill'
]
