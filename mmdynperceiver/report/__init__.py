# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Pictures of what leaving early saves: NumPy and Matplotlib only."""
from .curve import Curve, plot_accuracy_macs
from .gallery import GalleryImage, plot_gallery

__all__ = ['Curve', 'GalleryImage', 'plot_accuracy_macs', 'plot_gallery']
