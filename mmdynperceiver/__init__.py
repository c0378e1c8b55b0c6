# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Dynamic Perceiver for classification, video recognition and detection.

Importing this package is cheap and imports neither torch nor any OpenMMLab
package. It only arranges that known breakages of the OpenMMLab stack are
fixed at the moment the package concerned is imported; see
:mod:`mmdynperceiver.compat`.
"""
from .compat import install as _install_patches
from .version import __version__

_install_patches()

__all__ = ['__version__']
