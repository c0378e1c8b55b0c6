# Copyright (c) mmdynperceiver contributors. All rights reserved.
import numpy as np
import pytest

from mmdynperceiver.report import (Curve, GalleryImage, MappedImage,
                                   plot_accuracy_macs, plot_activation_maps,
                                   plot_gallery, plot_reliability, plot_shares)
from mmdynperceiver.report.figure import short

LINE = Curve('line', [1e6, 2e6, 3e6], [50., 60., 70.])
EXITS = Curve('exits', [1e6, 3e6], [50., 65.], labels=['exit 0', 'exit 1'])


def test_curve_needs_whole_points():
    with pytest.raises(ValueError, match=r"'bad' needs as many.*\[1, 2\]"):
        Curve('bad', [1., 2.], [50.])
    with pytest.raises(ValueError, match='labels'):
        Curve('bad', [1.], [50.], labels=['a', 'b'])


@pytest.mark.parametrize(
    'chosen',
    [None, (2e6, 61., 'chosen'), [(2e6, 61., 'one'), (1e6, 55., 'two')], []])
def test_plot_accuracy_macs(tmp_path, png_size, chosen):
    path = tmp_path / 'plot.png'
    plot_accuracy_macs([LINE, EXITS], path, 'title', chosen)
    width, height = png_size(path)
    assert 600 < width < 1600 and 400 < height < 1200
    assert [p.name for p in tmp_path.iterdir()] == ['plot.png']


def test_many_curves_have_their_legend_beside(tmp_path, png_size):
    curves = [Curve(f'network {k}', [1e9], [70. + k]) for k in range(9)]
    plot_accuracy_macs([LINE], tmp_path / 'one.png')
    plot_accuracy_macs(curves, tmp_path / 'many.png')
    assert png_size(tmp_path / 'many.png')[0] > png_size(tmp_path /
                                                         'one.png')[0]


def test_latency_axis(tmp_path, png_size):
    plot_accuracy_macs([Curve('a', [1., 2.], [50., 60.])],
                       tmp_path / 'ms.png',
                       cost='latency_ms')
    png_size(tmp_path / 'ms.png')
    with pytest.raises(ValueError, match="or 'latency_ms', got 'hours'"):
        plot_accuracy_macs([LINE], tmp_path / 'x.png', cost='hours')


@pytest.mark.parametrize('curves', [[], [Curve('empty', [], [])]])
def test_plot_needs_points(tmp_path, curves):
    with pytest.raises(ValueError, match='at least one curve'):
        plot_accuracy_macs(curves, tmp_path / 'x.png')
    assert not list(tmp_path.iterdir())


def test_gallery(tmp_path, png_size):
    pixels = np.zeros((8, 8, 3), np.uint8)
    right, wrong = (GalleryImage(pixels, 'a', name, 0.9) for name in 'ab')
    path = tmp_path / 'gallery.png'
    plot_gallery({'some': [right, wrong] * 3, 'none': []}, path, columns=4)
    two_rows = png_size(path)[1]
    plot_gallery({'some': [right, wrong], 'none': []}, path, columns=4)
    assert png_size(path)[1] < two_rows
    with pytest.raises(ValueError, match='at least one group, got none'):
        plot_gallery({}, path)


def test_long_names_are_cut():
    assert short('shark, man-eater') == 'shark'
    assert short('a' * 13) == 'a' * 13
    assert short('a' * 14) == 'a' * 12 + '…'


def test_shares(tmp_path, png_size):
    plot_shares([1e6, 2e6], [(1., 0.), (0.4, 0.6)], tmp_path / 's.png')
    png_size(tmp_path / 's.png')
    with pytest.raises(ValueError, match='got 2 budgets and 1 shares'):
        plot_shares([1e6, 2e6], [(1., 0.)], tmp_path / 'x.png')


def test_reliability(tmp_path, png_size):
    conf = np.array([[0., 0.2, 1.], [0.5, 0.9, 1.]])
    plot_reliability(conf, conf > 0.4, tmp_path / 'r.png', errors=(0.1, 0.2))
    png_size(tmp_path / 'r.png')
    with pytest.raises(ValueError, match=r'got \(2, 3\) and \(3,\)'):
        plot_reliability(conf, [True, True, False], tmp_path / 'x.png')


def test_activation_map_picture(tmp_path, png_size):
    image = MappedImage(
        np.zeros((8, 8, 3), np.uint8), np.random.rand(4, 8, 8), 'a', 'abca', 2)
    plot_activation_maps([image, image], tmp_path / 'm.png')
    png_size(tmp_path / 'm.png')
    with pytest.raises(ValueError, match='at least one'):
        plot_activation_maps([], tmp_path / 'x.png')
