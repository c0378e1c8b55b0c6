# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Dynamic networks of other families, in segments as Dyn-Perceiver is."""
from .msdnet import MSDNet

__all__ = ['MSDNet']
