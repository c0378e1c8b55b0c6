# Copyright (c) mmdynperceiver contributors. All rights reserved.
import numpy as np
import pytest
from matplotlib.colors import to_hex

from mmdynperceiver.report import Curve, plot_accuracy_macs
from mmdynperceiver.report.figure import (COLOURS, VARIABLES, drawable,
                                          font_file, short)
from .helpers import colour_at, labels_of

LINE = Curve('line', [1e6, 2e6, 3e6], [50., 60., 70.])
EXITS = Curve('exits', [1e6, 3e6], [50., 65.], labels=['exit 0', 'exit 1'])


def legend_of(figure):
    legend, = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_curve_needs_whole_points():
    with pytest.raises(ValueError, match=r"'bad' needs as many.*\[1, 2\]"):
        Curve('bad', [1., 2.], [50.])
    with pytest.raises(ValueError, match='labels'):
        Curve('bad', [1.], [50.], labels=['a', 'b'])
    with pytest.raises(ValueError, match=r'\[1, 2\]'):
        Curve('bad', [1.], [50.], intervals=[(4, 5), (5, 6)])


@pytest.mark.parametrize('chosen, stars', [
    (None, []),
    ((2e6, 61., 'chosen'), [(2., 61.)]),
    ([(2e6, 61., 'one'), (1e6, 55., 'two')], [(2., 61.), (1., 55.)]),
    ([], []),
])
def test_what_is_drawn(chosen, stars):
    figure = plot_accuracy_macs([LINE, EXITS], None, 'title', chosen)
    axes, = figure.axes
    line, points, *marked = axes.lines
    assert line.get_xydata().tolist() == [[1, 50], [2, 60], [3, 70]]
    assert points.get_xydata().tolist() == [[1, 50], [3, 65]]
    assert (points.get_linestyle(), points.get_marker()) == ('None', 'o')
    assert [tuple(star.get_xydata()[0]) for star in marked] == stars
    assert len({star.get_marker() for star in marked}) == len(stars)
    assert set(labels_of(axes)) == {'exit 0', 'exit 1'}
    names = [
        point[2]
        for point in ([chosen] if isinstance(chosen, tuple) else chosen or [])
    ]
    assert legend_of(figure) == ['line', 'exits', *names]
    assert axes.get_title() == 'title'
    assert axes.get_xlabel() == 'mean MACs of one image (M)'
    assert axes.get_ylabel() == 'top-1 accuracy (%)'
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    assert left < 1 and right > 3 and low < 50 and high > 70


def test_intervals_are_a_band_and_bars():
    ends = [(49., 51.), (58., 62.), (69., 71.)]
    line = Curve('line', LINE.macs, LINE.accuracy, intervals=ends)
    exits = Curve(
        'exits',
        EXITS.macs,
        EXITS.accuracy,
        EXITS.labels,
        intervals=[(40., 55.), (60., 80.)])
    axes, = plot_accuracy_macs([line, exits]).axes
    band, bars = axes.collections
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices}
    assert {(1., 49.), (1., 51.), (2., 58.), (2., 62.), (3., 71.)} <= corners
    assert [segment.tolist()
            for segment in bars.get_segments()] == [[[1., 40.], [1., 55.]],
                                                    [[3., 60.], [3., 80.]]]
    assert axes.get_ylim()[0] < 40 and axes.get_ylim()[1] > 80
    assert 'its 95 % interval' in legend_of(axes.figure)


def test_names_that_matplotlib_would_read_otherwise(tmp_path):
    points = Curve('_hidden $x', [1., 2.], [50., 60.], labels=['a$b$', '_c'])
    figure = plot_accuracy_macs([points], title='$100')
    assert legend_of(figure) == ['hidden $x']
    assert set(labels_of(figure.axes[0])) == {'a$b$', '_c'}
    plot_accuracy_macs([points], tmp_path / 'x.svg', '$100')
    text = (tmp_path / 'x.svg').read_text()
    assert '>$100</text>' in text and '>a$b$</text>' in text


def test_close_exits_have_labels_beside_each_other():
    exits = Curve(
        'exits', [5.5e6, 10.7e6, 15.16e6, 15.3e6], [92.65, 94.15, 94.1, 94.1],
        [f'exit {k}' for k in range(4)],
        intervals=[(91.5, 95.)] * 4)
    for narrow in (False, True):
        axes, = plot_accuracy_macs([exits], narrow=narrow).axes
        assert len(labels_of(axes)) == 4


def test_legend_stands_below_the_plot():
    curves = [Curve(f'network {k}', [1e9], [70. + k]) for k in range(13)]
    for narrow in (False, True):
        figure = plot_accuracy_macs(curves, narrow=narrow)
        axes, = figure.axes
        legend, = figure.legends
        box = legend.get_window_extent()
        assert not box.overlaps(axes.get_tightbbox())
        assert box.y0 >= 0 and box.x1 <= figure.bbox.width
    drawn = {(to_hex(line.get_color()), line.get_marker())
             for line in axes.lines}
    assert len(drawn) == 13


def test_latency_axis():
    axes, = plot_accuracy_macs([Curve('a', [1., 2.], [50., 60.])],
                               cost='latency_ms',
                               unit='clip').axes
    assert axes.get_xlabel() == 'mean latency of one clip (ms)'
    assert axes.lines[0].get_xdata().tolist() == [1., 2.]
    with pytest.raises(ValueError, match="or 'latency_ms', got 'hours'"):
        plot_accuracy_macs([LINE], cost='hours')


@pytest.mark.parametrize('curves', [[], [Curve('empty', [], [])]])
def test_plot_needs_points(tmp_path, curves):
    with pytest.raises(ValueError, match='at least one curve'):
        plot_accuracy_macs(curves, tmp_path / 'x.png')
    assert not list(tmp_path.iterdir())


def test_files(tmp_path):
    path = tmp_path / 'plot.png'
    axes, = plot_accuracy_macs([LINE, EXITS], path).axes
    assert colour_at(path, axes, 1.5, 55.) == COLOURS[0]
    assert colour_at(path, axes, 3., 65.) == COLOURS[1]
    assert colour_at(path, axes, 1.6, 68.) == '#ffffff'
    plot_accuracy_macs([LINE], tmp_path / 'plot.svg')
    text = (tmp_path / 'plot.svg').read_text()
    # All colours are the page's, so that they fit a dark one.
    for colour in ('#1b1f24', '#0072b2'):
        assert f'var({VARIABLES[colour]}, {colour})' in text
        assert text.count(colour) == text.count(f', {colour})')
    assert '#000000' not in text and 'id="plot-figure_1"' in text
    assert sorted(p.name
                  for p in tmp_path.iterdir()) == ['plot.png', 'plot.svg']
    with pytest.raises(FileNotFoundError):
        plot_accuracy_macs([LINE], tmp_path / 'missing/plot.png')


def test_long_names_are_cut():
    assert short('shark, man-eater') == 'shark'
    assert short('a' * 13) == 'a' * 13
    assert short('a' * 14) == 'a' * 12 + '…'
    assert short(', a') == ', a'


def test_names_that_no_font_has():
    assert drawable('Ёжик [ß]', 'class 1') == 'Ёжик [ß]'
    # A private character, which no font of another script has either.
    assert drawable('cat \U0010fffd', 'class 1') == 'class 1'
    assert np.char.endswith(font_file('cat'), 'DejaVuSans.ttf')
