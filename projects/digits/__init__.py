# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Data sets of real handwritten digits, made where they are needed.

The digits are those that scikit-learn bundles, so nothing is downloaded. The
package needs NumPy, OpenCV and scikit-learn only.
"""
from .backdrop import Backdrop, Style
from .clip import MOTIONS, draw_clip
from .clip_folder import write_clip_folder
from .draw import (draw_difficulty, draw_glyph, draw_image, draw_occluders,
                   draw_pose, draw_style)
from .image_folder import write_image_folder
from .scene import Glyph, Occluder, Pose, Rendered, half_extent, render
from .scene_folder import draw_scene, write_scene_folder
from .sources import NUM_CLASSES, SPLITS, DigitSource
from .spec import image_seed

__all__ = [
    'MOTIONS', 'NUM_CLASSES', 'SPLITS', 'Backdrop', 'DigitSource', 'Glyph',
    'Occluder', 'Pose', 'Rendered', 'Style', 'draw_clip', 'draw_difficulty',
    'draw_glyph', 'draw_image', 'draw_occluders', 'draw_pose', 'draw_scene',
    'draw_style', 'half_extent', 'image_seed', 'render', 'write_clip_folder',
    'write_image_folder', 'write_scene_folder'
]
