# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Leave these tests out where Matplotlib is not installed."""
import importlib.util

import pytest

collect_ignore_glob = [] if importlib.util.find_spec('matplotlib') else [
    'test_*'
]


@pytest.fixture
def colour_at():
    """The colour of a PNG file at a point of one of its figure's axes."""

    def colour(path, axes, x, y):
        from PIL import Image
        with Image.open(path) as image:
            assert image.format == 'PNG'
            scale = image.width / axes.figure.bbox.width
            right, up = scale * axes.transData.transform((x, y))
            pixel = image.convert('RGB').getpixel(
                (int(right), int(image.height - up)))
        return '#{:02x}{:02x}{:02x}'.format(*pixel)

    return colour


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
