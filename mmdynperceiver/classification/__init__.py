# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Dynamic Perceiver, and other dynamic networks, for MMPretrain.

Importing this registers everything that the classification configs name.
"""
from .. import hosts  # noqa: F401  (its hooks and metrics register)
from .backbone import ConvBackbone, DynPerceiverBackbone
from .classifier import DynPerceiverClassifier
from .datasets import BrokenImageError, CheckedImageFolder
from .head import DynPerceiverHead
from .networks import (ConvAIGBackbone, MSDNetBackbone, RANetBackbone,
                       ResolutionCascadeBackbone, SkipNetBackbone)
from .skipping import SkippingClassifier, SoftGatesHook

__all__ = [
    'BrokenImageError', 'CheckedImageFolder', 'ConvAIGBackbone',
    'ConvBackbone', 'DynPerceiverBackbone', 'DynPerceiverClassifier',
    'DynPerceiverHead', 'MSDNetBackbone', 'RANetBackbone',
    'ResolutionCascadeBackbone', 'SkipNetBackbone', 'SkippingClassifier',
    'SoftGatesHook'
]
