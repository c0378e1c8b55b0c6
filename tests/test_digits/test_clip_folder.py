# Copyright (c) mmdynperceiver contributors. All rights reserved.
import csv
import json

import cv2
import numpy as np
import pytest

from projects.digits import MOTIONS, ClipFolder, DigitSource, draw_clip
from projects.digits.__main__ import main
from projects.digits.clips import PARTS, draw_poses, draw_sweeps
from projects.digits.draw import draw_glyph, draw_style

COUNTS = dict(train=16, val=8)
SMALL = dict(counts=COUNTS, size=32, frames=6)


@pytest.fixture(scope='module')
def source():
    return DigitSource('test')


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp('clips') / 'clips'
    assert ClipFolder(**SMALL).write(root)
    return root


def poses(source, motion, seed, difficulty=0., frames=9):
    rng = np.random.default_rng(seed)
    style = draw_style(rng, difficulty, 32)
    glyph = draw_glyph(rng, style, 0, difficulty)
    sweeps = draw_sweeps(rng, source, glyph, 1 - difficulty, 64)
    found = draw_poses(rng, sweeps, motion, difficulty, 64, frames)
    return np.array(found)


@pytest.mark.parametrize('motion', MOTIONS)
def test_only_one_part_moves_and_in_its_direction(source, motion):
    part, direction = MOTIONS[motion]
    column = PARTS.index(part)
    for seed in range(5):
        steps = np.diff(poses(source, motion, seed), axis=0)
        assert (direction * steps[:, column] > 0).all()
        assert np.allclose(np.delete(steps, column, 1), 0)


@pytest.mark.parametrize('one, other', [('left', 'right'), ('up', 'down'),
                                        ('clockwise', 'counterclockwise'),
                                        ('growing', 'shrinking')])
def test_opposite_classes_are_the_same_frames_in_reverse(source, one, other):
    for seed in range(5):
        forward, backward = (poses(source, m, seed) for m in (one, other))
        assert np.allclose(forward, backward[::-1])


def test_single_frames_do_not_tell_the_class(source):
    """Each part of the pose is spread in the same way in all classes."""
    spread = {}
    for motion in MOTIONS:
        values = np.concatenate(
            [poses(source, motion, seed, frames=16) for seed in range(300)])
        values[:, 3] %= 360
        spread[motion] = np.quantile(values, [0.1, 0.25, 0.5, 0.75, 0.9], 0)
    middle = np.mean(list(spread.values()), 0)
    scale = middle[-1] - middle[0]
    for motion, quantiles in spread.items():
        assert (np.abs(quantiles - middle) < 0.12 * scale).all(), motion


def test_hard_clips_move_less(source):
    reach = [
        np.mean([
            np.ptp(poses(source, 'left', seed, difficulty)[:, 0])
            for seed in range(20)
        ]) for difficulty in (0., 0.9)
    ]
    assert reach[1] < reach[0] / 2


def test_the_same_arguments_give_the_same_pixels(source):
    one, difficulty = draw_clip(source, 3, 'up', 7, size=32, frames=4)
    other, _ = draw_clip(source, 3, 'up', 7, size=32, frames=4)
    assert one.shape == (4, 32, 32, 3) and one.dtype == np.uint8
    assert np.array_equal(one, other) and 0 <= difficulty <= 1
    assert not np.array_equal(one[0], one[-1])
    with pytest.raises(ValueError, match="got 'sideways'"):
        draw_clip(source, 3, 'sideways', 7)


def test_real_video_files(made):
    rows = list(csv.DictReader(open(made / 'train.csv', newline='')))
    assert len(rows) == 16
    assert [int(row['label']) for row in rows] == 2 * list(range(8))
    for row in rows:
        capture = cv2.VideoCapture(str(made / row['file']))
        frames = []
        while (read := capture.read())[0]:
            frames.append(read[1])
        assert np.shape(frames) == (6, 32, 32, 3)
    # What is written is what was drawn, up to JPEG.
    last = rows[-1]
    position = int(
        np.flatnonzero(DigitSource('train').indices == int(last['source']))[0])
    drawn, difficulty = draw_clip(
        DigitSource('train'), position,
        list(MOTIONS)[int(last['label'])], int(last['seed']), 32, 6)
    assert f'{difficulty:.6f}' == last['difficulty']
    assert np.abs(np.float32(frames) - drawn).mean() < 12


def test_lists_and_parameters(made):
    lines = (made / 'val.txt').read_text().splitlines()
    assert lines[1] == 'val/right/000001.avi 1' and len(lines) == 8
    info = json.loads((made / 'dataset.json').read_text())
    assert info['classes'] == list(MOTIONS)
    assert info['parameters']['frames'] == 6
    assert not (made / 'test.txt').exists()


def test_reuses_and_refuses(made):
    assert not ClipFolder(**SMALL).write(made)
    with pytest.raises(FileExistsError, match='frames is 6 and not 7'):
        ClipFolder(**dict(SMALL, frames=7)).write(made)
    with pytest.raises(ValueError, match='frames must be at least 2, got 1'):
        ClipFolder(**dict(SMALL, frames=1))
    with pytest.raises(ValueError, match='one split needs clips'):
        ClipFolder(dict(train=0))


def test_command_line(tmp_path, capsys):
    root = tmp_path / 'clips'
    options = ['--train', '8', '--val', '0', '--test', '0', '--size', '32']
    assert main([str(root), '--kind', 'clips', *options]) == 0
    assert len(list(root.rglob('*.avi'))) == 8
    assert main([str(root), '--kind', 'images', *options]) == 2
    assert 'other parameters: kind' in capsys.readouterr().err
