# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Dynamic networks of other families, in segments as Dyn-Perceiver is."""
from .msdnet import MSDNet
from .resolution_cascade import ResolutionCascade

__all__ = ['MSDNet', 'ResolutionCascade']
