# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Data sets of real handwritten digits, made where they are needed.

The digits are those that scikit-learn bundles, so nothing is downloaded. The
package needs NumPy, OpenCV and scikit-learn only.
"""
from .clips import MOTIONS, ClipFolder, draw_clip, write_video
from .images import ImageFolder, draw_image
from .scenes import SceneFolder, draw_scene
from .sources import NUM_CLASSES, SPLITS, DigitSource

__all__ = [
    'MOTIONS', 'NUM_CLASSES', 'SPLITS', 'ClipFolder', 'DigitSource',
    'ImageFolder', 'SceneFolder', 'draw_clip', 'draw_image', 'draw_scene',
    'write_video'
]
