# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""An exported network in the browser: a static page, see README.md."""
from .build import build_page

__all__ = ['build_page']
