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


@pytest.fixture
def labels_of():
    """Texts in a plot with their boxes; none may lie over another."""

    def labels(axes):
        found = [text for text in axes.texts if text.get_text()]
        boxes = [text.get_window_extent() for text in found]
        frame = axes.get_window_extent()
        for i, box in enumerate(boxes):
            assert frame.contains(*box.min) and frame.contains(*box.max), \
                found[i].get_text()
            for j in range(i):
                assert not box.overlaps(boxes[j]), (found[i].get_text(),
                                                    found[j].get_text())
        return {text.get_text(): box for text, box in zip(found, boxes)}

    return labels
