# Copyright (c) mmdynperceiver contributors. All rights reserved.
import numpy as np
import pytest
from matplotlib.figure import Figure

from mmdynperceiver.report.labels import Label, place_labels
from .helpers import labels_of


def plot(points):
    figure = Figure((6, 4), layout='constrained')
    axes = figure.add_subplot()
    axes.plot(*np.transpose(points), 'o')
    axes.margins(0.2)
    return axes


@pytest.mark.parametrize('points', [
    [(1., 1.)] * 3,
    [(k / 50, 1.) for k in range(6)] + [(1., 1.1)],
    [(np.cos(k), np.sin(k) / 9) for k in range(15)],
])
def test_labels_of_a_crowd_do_not_overlap(points):
    axes = plot(points)
    labels = [Label([p], f'name {k}', 'k') for k, p in enumerate(points)]
    place_labels(axes, labels)
    assert len(labels_of(axes)) == len(points)


def test_a_label_stands_at_its_point_and_covers_none():
    points = [(0., 0.), (0.5, 1.), (1., 0.)]
    axes = plot(points)
    place_labels(axes, [Label([p], str(p), 'k') for p in points])
    pixels = axes.transData.transform(points)
    for (x, y), box in zip(pixels, labels_of(axes).values()):
        nearest = np.clip((x, y), box.min, box.max)
        assert 0 < np.hypot(*(nearest - (x, y))) < 20
        assert not any(box.contains(*pixel) for pixel in pixels)


def test_a_label_leaves_a_line_free():
    axes = plot([(0., 0.), (1., 1.)])
    line = np.array([(-1., 0.), (0., 0.), (2., 0.)])
    place_labels(axes, [Label([(0., 0.)], 'long name of it', 'k')], [line])
    box, = labels_of(axes).values()
    level = axes.transData.transform((0., 0.))[1]
    assert not box.ymin < level < box.ymax


def test_a_name_goes_to_the_free_end_of_its_curve():
    crowd = [(1 + k / 200, 1.) for k in range(12)]
    axes = plot([(0., 0.), *crowd])
    labels = [Label([p], f'{k}', 'k') for k, p in enumerate(crowd)]
    labels.append(Label([(1., 1.), (0., 0.)], 'a very long name', 'k'))
    place_labels(axes, labels)
    found = labels_of(axes)
    x, y = axes.transData.transform((0., 0.))
    assert abs(found['a very long name'].x0 - x) < 20


def test_a_line_leads_to_a_label_that_is_far_away():
    axes = plot([(1., 1.)] * 12)
    place_labels(axes,
                 [Label([(1., 1.)], f'name {k}', 'k') for k in range(12)])
    leads = [text for text in axes.texts if text.arrow_patch is not None]
    assert len(labels_of(axes)) == 12 and 0 < len(leads) < 12


def test_places_are_always_the_same():
    points = [(np.cos(k), np.sin(k) / 9) for k in range(9)]

    def places():
        labels = [Label([p], f'name {k}', 'k') for k, p in enumerate(points)]
        return [
            text.get_position() for text in place_labels(plot(points), labels)
        ]

    assert places() == places()
