# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Files are written whole or not at all; see :mod:`mmdynperceiver.files`."""
from ..files import replacing, write_json, write_text

__all__ = ['replacing', 'write_json', 'write_text']
