# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Shares, reliability, galleries and activation maps: what is drawn."""
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from mmdynperceiver.report import (GalleryImage, MappedImage, PipelineImages,
                                   plot_activation_maps, plot_gallery,
                                   plot_reliability, plot_shares)
from mmdynperceiver.report.figure import COLOURS
from mmdynperceiver.report.gallery import SCREEN, overlay
from .helpers import apart, colour_at

PIXELS = np.zeros((8, 8, 3), np.uint8)
STRIP = np.zeros((8, 32, 3), np.uint8)


def image(truth='a', predicted=None, pixels=PIXELS, caption=None):
    return GalleryImage(pixels, truth, predicted or truth, 0.9, caption)


def captions(figure):
    """Captions of a gallery by its headings; none may lie over another."""
    found = {}
    for part in figure.subfigs:
        drawn = [axis for axis in part.axes if axis.images]
        titles = [axis.title for axis in drawn]
        # Less the space for descenders of the last line.
        boxes = [title.get_window_extent().padded(-2) for title in titles]
        boxes += [axis.get_window_extent() for axis in drawn]
        assert apart(*boxes)
        for box in boxes:
            assert box.x0 >= 0 and box.x1 <= figure.bbox.width
            assert box.y0 >= 0 and box.y1 <= figure.bbox.height
        found[part.get_suptitle()] = [title.get_text() for title in titles]
    return found


def test_shares_go_from_the_first_exit_to_the_last():
    macs, shares = [1e9, 2e9, 3e9], [(1., 0.), (0.4, 0.6), (0., 1.)]
    for narrow in (False, True):
        figure = plot_shares(macs, shares, narrow=narrow)
        axes, = figure.axes
        assert axes.get_xlim() == (1., 3.) and axes.get_ylim() == (0, 100)
        lower, upper = axes.collections
        assert {(2., 0.), (2., 40.)} <= _corners(lower)
        assert {(2., 40.), (2., 100.)} <= _corners(upper)
        assert axes.get_xlabel() == 'mean MACs of one image (G)'
        legend, = figure.legends
        assert [t.get_text()
                for t in legend.get_texts()] == ['exit 0', 'exit 1']
    with pytest.raises(ValueError, match='got 2 costs and 1 shares'):
        plot_shares([1e6, 2e6], [(1., 0.)])


def _corners(area):
    return {tuple(corner) for corner in area.get_paths()[0].vertices.round(6)}


def test_reliability_by_hand():
    conf = np.array([[0.1, 0.9, 0.9, 0.9], [0.4, 0.6, 0.6, 1.]])
    right = np.array([[0, 1, 1, 0], [1, 1, 1, 1]])
    figure = plot_reliability(conf, right, errors=(0.125, 0.2), bins=2)
    upper, other, lower, _ = figure.axes
    assert [bar.get_height() for bar in upper.patches] == [0, 2 / 3]
    assert [bar.get_height() for bar in other.patches] == [1, 1]
    assert [bar.get_height() for bar in lower.patches] == [25, 75]
    assert upper.get_title() == 'exit 0\nECE 12.5 %'
    assert lower.get_ylabel() == 'images (%)'
    with pytest.raises(ValueError, match=r'got \(2, 3\) and \(3,\)'):
        plot_reliability(np.ones((2, 3)), [True, True, False])


def test_narrow_reliability_has_two_columns():
    conf = np.full((5, 4), 0.5)
    figure = plot_reliability(conf, conf > 0, narrow=True, unit='clip')
    shown = [axis for axis in figure.axes if axis.axison]
    assert len(shown) == 10 and figure.get_figwidth() < 4
    assert len({round(axis.get_position().x0, 3) for axis in shown}) == 2
    titles = [axis.get_title() for axis in shown if axis.get_title()]
    assert titles == [f'exit {k}' for k in range(5)]
    assert apart(*[axis.get_tightbbox() for axis in shown])


def test_gallery():
    figure = plot_gallery(
        {
            'easy': [image('cat'), image('cat', 'dog')],
            'hard': []
        },
        columns=2,
        side=1.5)
    assert captions(figure) == {
        'easy': ['cat  90 %', 'cat, as dog  90 %'],
        'hard': []
    }
    right, wrong = [axis.title for axis in figure.subfigs[0].axes]
    assert to_hex(right.get_color()) != to_hex(wrong.get_color())
    with pytest.raises(ValueError, match='at least one group, got none'):
        plot_gallery({})


def test_names_of_all_kinds_fit():
    names = [
        '[bold]cat[/bold]', '$x$ and $', 'Ёжик', 'x' * 40,
        'great white shark, white shark, man-eater',
        'a name of very many words that go on and on'
    ]
    images = [image(name, other) for name in names for other in names]
    found = captions(plot_gallery({'exit 0': images}))['exit 0']
    assert found[0] == '[bold]cat[/bo\nld]\n90 %'
    assert 'great white\nshark\nas $x$ and $\n90 %' in found
    assert 'xxxxxxxxxxxxx\nxxxxxxxxxx…\n90 %' in found
    assert 'a name of\nvery many…\n90 %' in found


def test_a_gallery_of_images_shows_all():
    found = captions(plot_gallery({'some': [image()] * 23, 'more': [image()]}))
    assert [len(part) for part in found.values()] == [23, 1]


@pytest.mark.parametrize('exits, each', [(1, 30), (4, 10), (4, 3), (8, 20)])
def test_clips_fill_at_most_one_screen(exits, each):
    strip = image('cat', pixels=STRIP)
    groups = {f'exit {k}': [strip] * each for k in range(exits)}
    figure = plot_gallery(groups)
    found = captions(figure)
    assert set(found) == set(groups)
    assert all(1 <= len(part) <= each for part in found.values())
    assert exits == 8 or figure.get_figheight() <= SCREEN


def test_captions_of_their_own_are_wrapped():
    found = captions(
        plot_gallery({'x': [image(caption='2 of 3 found, 11 wrong')]}))
    assert found == {'x': ['2 of 3 found,\n11 wrong']}


def test_activation_maps_leave_out_exits_without_any():
    full = np.linspace(0, 1, 64).reshape(8, 8)
    images = [
        MappedImage(PIXELS + 200, [full, None, full * 0, None], 'cat',
                    ['cat', 'dog', '$x$', 'cat'], exit_index)
        for exit_index in (2, 3)
    ]
    figure = plot_activation_maps(images)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == [
        'cat\nleaves at exit 2', 'exit 0\ncat', 'exit 2\n$x$',
        'cat\nleaves at exit 3', 'exit 0\ncat', 'exit 2\n$x$'
    ]
    framed = [
        axis.get_title() for axis in figure.axes
        if axis.spines['left'].get_linewidth() > 2
    ]
    assert framed == ['exit 2\n$x$']
    first, with_map, empty = [
        axis.images[0].get_array() for axis in figure.axes[:3]
    ]
    assert (first == 200).all()
    assert with_map[-1, -1].sum() > with_map[0, 0].sum()
    assert (empty == empty[0, 0]).all()
    assert apart(*[axis.get_tightbbox() for axis in figure.axes])
    nothing = [part._replace(maps=[None] * 4) for part in images]
    for part in ([], nothing):
        with pytest.raises(ValueError, match='at least one image with a map'):
            plot_activation_maps(part)


def test_overlay_by_hand():
    mixed = overlay(PIXELS + 100, np.zeros((8, 8)))
    # 0.4 of the image and 0.6 of the darkest colour, (0, 0, 4).
    assert mixed.dtype == np.uint8 and mixed[0, 0].tolist() == [40, 40, 42]


def test_files_show_what_is_drawn(tmp_path):
    path = tmp_path / 'picture.png'
    axes, = plot_shares([1e6, 2e6], [(1., 0.), (0.4, 0.6)], path).axes
    assert [colour_at(path, axes, 1.9, y)
            for y in (10, 90)] == list(COLOURS[:2])
    conf = np.array([[0.25, 0.25, 0.75, 0.75], [0.25, 0.75, 0.75, 0.75]])
    right = np.array([[0, 0, 1, 1], [1, 1, 1, 1]])
    upper, other, lower, _ = plot_reliability(conf, right, path, bins=2).axes
    assert colour_at(path, upper, 0.25, 0.9) == '#ffffff'
    assert colour_at(path, upper, 0.75, 0.9) == COLOURS[0]
    assert colour_at(path, other, 0.25, 0.9) == COLOURS[1]
    assert colour_at(path, lower, 0.25, 40) == COLOURS[0]
    red = PIXELS + np.uint8([200, 10, 20])
    figure = plot_gallery({'some': [image(pixels=red)]}, path)
    shown = next(a for a in figure.subfigs[0].axes if a.images)
    assert colour_at(path, shown, 4, 4) == '#c80a14'
    mapped = MappedImage(red, np.zeros((1, 8, 8)), 'a', 'a', 0)
    axes = plot_activation_maps([mapped], path).axes
    assert colour_at(path, axes[0], 4, 4) == '#c80a14'
    assert colour_at(path, axes[1], 4, 4) == '#50040a'
    assert [file.name for file in tmp_path.iterdir()] == ['picture.png']
    with pytest.raises(FileNotFoundError):
        plot_gallery({'easy': []}, tmp_path / 'missing' / 'g.png')


def test_frames_of_a_clip_lie_side_by_side():
    model = SimpleNamespace(data_preprocessor=None)
    frames = torch.arange(7.).reshape(7, 1, 1, 1).expand(7, 3, 2, 5)
    images = PipelineImages([dict(inputs=frames)], model)
    assert images.unit == 'clip'
    strip = images(0).pixels
    assert strip.shape == (2, 20, 3) and strip.dtype == np.uint8
    assert strip[1, ::5, 2].tolist() == [0, 2, 4, 6]
    data = [dict(inputs=torch.zeros(3, 8, 8))]
    assert PipelineImages(data, model).unit == 'image'
