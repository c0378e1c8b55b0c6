# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Pictures: what is refused and what is written."""
import cv2
import numpy as np
import pytest

from mmdynperceiver.report import (Curve, GalleryImage, plot_accuracy_macs,
                                   plot_gallery)


def test_curves_are_drawn(tmp_path):
    line = Curve('leaving early', [1e6, 2e6], [90, 92])
    points = Curve('exits', [1e6, 3e6], [89, 92], ['exit 0', 'exit 1'])
    empty, both = tmp_path / 'line.png', tmp_path / 'both.png'
    plot_accuracy_macs([line], empty)
    plot_accuracy_macs([line, points], both, chosen=(2e6, 92, 'chosen'))
    assert sorted(p.name
                  for p in tmp_path.iterdir()) == ['both.png', 'line.png']
    pictures = [cv2.imread(str(path)) for path in (empty, both)]
    assert min(picture.shape[0] for picture in pictures) > 300
    assert pictures[0].shape != pictures[1].shape or np.any(
        pictures[0] != pictures[1])


def test_curves_that_do_not_fit(tmp_path):
    with pytest.raises(ValueError, match=r"'bad'.*\[1, 2\]"):
        Curve('bad', [1, 2], [3])
    with pytest.raises(ValueError, match='at least one'):
        plot_accuracy_macs([], tmp_path / 'none.png')


def test_gallery_is_drawn_whatever_the_counts(tmp_path):
    image = GalleryImage(np.zeros((8, 8, 3), np.uint8), '3', '5', 0.4)
    plot_gallery({'easy': [image] * 13, 'hard': []}, tmp_path / 'g.png')
    assert cv2.imread(str(tmp_path / 'g.png')) is not None
    with pytest.raises(ValueError, match='at least one group'):
        plot_gallery({}, tmp_path / 'none.png')


def test_a_failing_picture_leaves_nothing(tmp_path):
    with pytest.raises(FileNotFoundError):
        plot_gallery({'easy': []}, tmp_path / 'missing' / 'g.png')
    assert list(tmp_path.iterdir()) == []
