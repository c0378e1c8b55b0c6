# Copyright (c) mmdynperceiver contributors. All rights reserved.
import numpy as np
import pytest

from projects.digits import DigitSource, draw_image
from projects.digits.draw import (draw_difficulty, draw_glyph, draw_occluders,
                                  draw_style)
from projects.digits.images import draw_pose


@pytest.fixture(scope='module')
def source():
    return DigitSource('train')


def draw_parts(source, seed, difficulty):
    rng = np.random.default_rng(seed)
    style = draw_style(rng, difficulty)
    glyph = draw_glyph(rng, style, seed % len(source), difficulty)
    pose = draw_pose(rng, source, glyph, difficulty, 64)
    return style, pose, draw_occluders(rng, style, pose, difficulty)


def test_same_seed_same_image(source):
    first, difficulty = draw_image(source, 4, seed=5)
    second, again = draw_image(source, 4, seed=5)
    assert np.array_equal(first.image, second.image) and difficulty == again
    other, _ = draw_image(source, 4, seed=6)
    assert (first.image != other.image).mean() > 0.5


@pytest.mark.parametrize('size', [32, 64, 97])
def test_digit_is_visible_and_inside(source, size):
    for seed in range(150):
        rendered, difficulty = draw_image(source, seed, seed, size)
        assert rendered.image.shape == (size, size, 3)
        assert 0 <= difficulty <= 1
        x1, y1, x2, y2 = rendered.boxes[0]
        assert x1 >= 0 and y1 >= 0 and x2 <= size and y2 <= size
        assert y2 - y1 >= 0.2 * size
        assert rendered.masks[0].sum() >= 0.015 * size**2


@pytest.mark.parametrize('hardness', [0.5, 1, 3])
def test_hardness_shifts_the_difficulty(hardness):
    rng = np.random.default_rng(0)
    drawn = [draw_difficulty(rng, hardness) for _ in range(4000)]
    assert np.mean(drawn) == pytest.approx(hardness / (hardness + 1), abs=0.02)


def test_hard_scenes_are_harder_in_every_way(source):
    aspects = []
    for difficulty in (0., 1.):
        drawn = [draw_parts(source, seed, difficulty) for seed in range(200)]
        aspects.append(
            np.mean([(-abs(style.contrast), style.texture_strength,
                      style.strokes, style.pieces, style.blur, style.noise,
                      -pose.size, abs(pose.angle), len(bars))
                     for style, pose, bars in drawn], 0))
    easy, hard = aspects
    assert (hard > easy).all()


def test_easiest_scenes_are_clear(source):
    for seed in range(200):
        style, pose, bars = draw_parts(source, seed, 0.)
        assert abs(style.contrast) > 0.5
        assert style.strokes == style.pieces == len(bars) == style.blur == 0
        assert pose.size > 0.65 * 64


def test_angles_keep_six_and_nine_apart(source):
    angles = [draw_parts(source, seed, 1.)[1].angle for seed in range(300)]
    assert 15 < np.abs(angles).max() <= 30
