# Copyright (c) mmdynperceiver contributors. All rights reserved.
from dataclasses import replace

import numpy as np
import pytest

from projects.digits import DigitSource
from projects.digits.backdrop import TEXTURES, Backdrop, Style, luma, tinted
from projects.digits.scene import Glyph, Occluder, Pose, half_extent, render

PLAIN = Style(seed=0, background=(0.1, 0.1, 0.1), contrast=0.8)
RICH = Style(
    seed=7,
    background=(0.3, 0.4, 0.5),
    contrast=0.4,
    texture='cloud',
    texture_strength=0.2,
    strokes=4,
    pieces=4,
    blur=0.8,
    noise=0.05)
INK = (0.9, 0.9, 0.9)


@pytest.fixture(scope='module')
def source():
    return DigitSource('val')


def box_of(mask):
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [cols[0], rows[0], cols[-1] + 1, rows[-1] + 1]


@pytest.mark.parametrize('angle', [0, 25, -140])
@pytest.mark.parametrize('size', [18, 40, 90])
def test_box_is_tight_around_the_visible_digit(source, size, angle):
    backdrop = Backdrop(PLAIN, (110, 130), source)
    digit = Glyph(3, INK, slant=0.2), Pose(70, 55, size, angle)
    rendered = render(source, backdrop, [digit])
    empty = render(source, backdrop, []).image
    change = rendered.image.astype(int).sum(2) - empty.astype(int).sum(2)
    # Half of the full change of colour is the edge of the ink.
    assert rendered.boxes[0].tolist() == box_of(change >= change.max() / 2)
    assert rendered.boxes[0].tolist() == box_of(rendered.masks[0])


def test_digit_is_where_its_pose_says(source):
    backdrop = Backdrop(PLAIN, (100, 160), source)
    for position in range(0, 60, 7):
        pose = Pose(110, 40, 48)
        glyph = Glyph(position, INK)
        x1, y1, x2, y2 = render(source, backdrop, [(glyph, pose)]).boxes[0]
        assert (x1 + x2 - 1) / 2 == pytest.approx(110, abs=2)
        assert (y1 + y2 - 1) / 2 == pytest.approx(40, abs=2)
        assert 0.7 * 48 < y2 - y1 < 1.2 * 48


def test_angle_turns_clockwise(source):
    backdrop = Backdrop(PLAIN, (101, 101), source)
    one = Glyph(int(source.members(0)[0]), INK)
    upright = render(source, backdrop, [(one, Pose(50, 50, 60))]).masks[0]
    turned = render(source, backdrop, [(one, Pose(50, 50, 60, 90))]).masks[0]
    expected = np.rot90(upright, -1)
    assert (turned ^ expected).sum() < 0.02 * expected.sum()


@pytest.mark.parametrize('angle', [0, 30, 110])
def test_half_extent_bounds_the_box(source, angle):
    backdrop = Backdrop(PLAIN, (120, 120), source)
    for position in range(0, 60, 7):
        glyph = Glyph(position, INK, slant=-0.2, stretch=1.2)
        pose = Pose(60, 60, 50, angle)
        half_w, half_h = half_extent(source, glyph, pose)
        x1, y1, x2, y2 = render(source, backdrop, [(glyph, pose)]).boxes[0]
        assert x2 - x1 <= 2 * half_w + 3
        assert y2 - y1 <= 2 * half_h + 3


def test_bold_pen_writes_more(source):
    backdrop = Backdrop(PLAIN, (64, 64), source)
    areas = [
        render(source, backdrop,
               [(Glyph(2, INK, weight), Pose(32, 32, 40))]).masks.sum()
        for weight in (0, 0.5, 1)
    ]
    assert areas[0] < areas[1] < areas[2]


def test_moving_a_digit_leaves_the_look_alone(source):
    glyph = Glyph(5, INK)
    here, there = Pose(24, 40, 24), Pose(100, 60, 24, 20)
    # Two backdrops: the look follows from the style, not from the object.
    first = render(source, Backdrop(RICH, (80, 128), source), [(glyph, here)])
    second = render(source, Backdrop(RICH, (80, 128), source),
                    [(glyph, there)])
    same = (first.image == second.image).all(2)
    away = np.ones((80, 128), bool)
    for x1, y1, x2, y2 in np.concatenate([first.boxes, second.boxes]):
        # The blur reaches about four standard deviations.
        away[int(y1) - 5:int(y2) + 5, int(x1) - 5:int(x2) + 5] = False
    assert same[away].all() and away.mean() > 0.5
    assert not same[first.masks[0]].all()


def test_rendering_does_not_change_the_backdrop(source):
    backdrop = Backdrop(RICH, (64, 64), source)
    before = backdrop.canvas.copy()
    bar = Occluder(((0, 0), (60, 0), (60, 60)), (0, 0, 0))
    render(source, backdrop, [(Glyph(0, INK), Pose(32, 32, 40))], [bar])
    assert np.array_equal(backdrop.canvas, before)


def test_another_seed_is_another_look(source):
    first = Backdrop(RICH, (64, 64), source)
    second = Backdrop(replace(RICH, seed=8), (64, 64), source)
    assert (first.canvas != second.canvas).mean() > 0.5


def test_later_digits_lie_over_earlier_ones(source):
    backdrop = Backdrop(PLAIN, (64, 64), source)
    below = Glyph(0, (0, 0, 1)), Pose(30, 32, 40)
    above = Glyph(1, (0, 1, 0)), Pose(34, 32, 40)
    both = render(source, backdrop, [below, above])
    alone = [
        render(source, backdrop, [one]).masks[0] for one in (below, above)
    ]
    assert not (both.masks[0] & both.masks[1]).any()
    assert np.array_equal(both.masks[1], alone[1])
    assert np.array_equal(both.masks[0], alone[0] & ~alone[1])
    assert (both.image[both.masks[1]].argmax(1) == 1).all()


def test_occluder_hides_the_digit(source):
    backdrop = Backdrop(PLAIN, (64, 64), source)
    digit = Glyph(0, INK), Pose(32, 32, 40)
    left = Occluder(((-1, -1), (31, -1), (31, 65), (-1, 65)), (0, 0, 1))
    free = render(source, backdrop, [digit])
    half = render(source, backdrop, [digit], [left])
    assert half.boxes[0, 0] == 32 and free.boxes[0, 0] < 31
    assert np.array_equal(half.masks[0][:, 32:], free.masks[0][:, 32:])
    assert (half.image[:, :30] == (0, 0, 255)).all()


def test_hidden_digits_have_empty_boxes(source):
    backdrop = Backdrop(PLAIN, (64, 64), source)
    outside = [(Glyph(0, INK), Pose(x, y, 30))
               for x, y in ((-90, 30), (150, 30), (30, -90), (30, 150))]
    rendered = render(source, backdrop, outside)
    assert not rendered.boxes.any() and not rendered.masks.any()
    assert np.array_equal(rendered.image, backdrop.canvas)


def test_cut_off_digit_keeps_its_visible_part(source):
    backdrop = Backdrop(PLAIN, (64, 64), source)
    rendered = render(source, backdrop, [(Glyph(0, INK), Pose(0, 63, 40))])
    x1, y1, x2, y2 = rendered.boxes[0]
    assert x1 == 0 and y2 == 64 and x2 > 5 and y1 < 58


@pytest.mark.parametrize('texture', TEXTURES)
@pytest.mark.parametrize('shape', [(32, 32), (48, 200)])
def test_textures_fill_any_canvas(source, texture, shape):
    style = replace(RICH, texture=texture, strokes=0, pieces=0)
    canvas = Backdrop(style, shape, source).canvas
    assert canvas.shape == shape + (3, ) and canvas.dtype == np.uint8
    mean = canvas.mean((0, 1)) / 255
    assert mean == pytest.approx(RICH.background, abs=0.12)
    assert (canvas.std((0, 1)).max() > 2) == (texture != 'plain')


def test_unknown_texture(source):
    with pytest.raises(ValueError, match="plain, .*, got 'fur'"):
        Backdrop(replace(PLAIN, texture='fur'), (64, 64), source)


@pytest.mark.parametrize('brightness', [0.02, 0.5, 0.98])
def test_tint_keeps_the_brightness(brightness):
    rng = np.random.default_rng(0)
    for _ in range(50):
        color = tinted(rng, brightness, 0.5)
        assert luma(color) == pytest.approx(brightness, abs=1e-5)
        assert min(color) > -1e-6 and max(color) < 1 + 1e-6
