# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Leave these tests out where Matplotlib is not installed."""
import importlib.util

import pytest

collect_ignore_glob = [] if importlib.util.find_spec('matplotlib') else [
    'test_*'
]


@pytest.fixture
def png_size():
    """Open a picture, check that it is whole, and give its size."""

    def size(path):
        from PIL import Image
        with Image.open(path) as image:
            assert image.format == 'PNG'
            image.load()
            # A blank picture has a single colour.
            assert len(image.convert('L').getcolors()) > 2
            return image.size

    return size
