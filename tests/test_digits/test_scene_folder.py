# Copyright (c) mmdynperceiver contributors. All rights reserved.
import csv
import json

import numpy as np
import pytest

from projects.digits import DigitSource, SceneFolder, draw_scene, folder

SMALL = dict(counts=dict(train=12, test=5), size=64, max_digits=4, seed=3)


@pytest.fixture(scope='module')
def source():
    return DigitSource('train')


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp('scenes') / 'scenes'
    assert SceneFolder(**SMALL).write(root)
    return root


def read(root, split='train'):
    return json.loads((root / f'annotations/{split}.json').read_text())


def test_same_seed_same_scene(source):
    one, first, difficulty = draw_scene(source, 5)
    other, second, _ = draw_scene(source, 5)
    assert np.array_equal(one.image, other.image) and first == second
    assert not np.array_equal(one.image, draw_scene(source, 6)[0].image)
    assert 0 <= difficulty <= 1


def test_digits_fit_and_hardly_overlap(source):
    numbers = set()
    for seed in range(40):
        scene, positions, _ = draw_scene(source, seed, 96, hardness=2.)
        numbers.add(len(positions))
        boxes = scene.boxes[scene.masks.any((1, 2))]
        assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= 96).all()
        assert (boxes[:, 3] - boxes[:, 1] >= 8).all()
        for i, box in enumerate(boxes):
            for other in boxes[:i]:
                low = np.maximum(box[:2], other[:2])
                common = np.minimum(box[2:], other[2:]) - low
                smaller = min((b[2:] - b[:2]).prod() for b in (box, other))
                assert common.clip(0).prod() <= 0.2 * smaller
    assert numbers >= {1, 2, 3, 4}


def test_hard_scenes_hold_more_and_smaller_digits(source):
    counts, heights = [], []
    for hardness in (0.2, 5.):
        scenes = [draw_scene(source, s, hardness=hardness) for s in range(40)]
        counts.append(np.mean([len(positions) for _, positions, _ in scenes]))
        boxes = np.concatenate([scene.boxes for scene, _, _ in scenes])
        heights.append(np.mean(boxes[:, 3] - boxes[:, 1]))
    assert counts[0] < counts[1] and heights[0] > heights[1]


def test_annotations_are_those_of_coco(made):
    content = read(made)
    assert [image['id'] for image in content['images']] == list(range(1, 13))
    assert [entry['name']
            for entry in content['categories']] == list('0123456789')
    ids = [annotation['id'] for annotation in content['annotations']]
    assert ids == list(range(1, len(ids) + 1))
    for image in content['images']:
        assert (made / 'train' / image['file_name']).is_file()
        assert (image['height'], image['width']) == (64, 64)


def test_boxes_are_those_of_the_drawn_scene(made, source):
    content = read(made)
    rows = list(csv.DictReader(open(made / 'train.csv', newline='')))
    for image, row in zip(content['images'], rows):
        scene, positions, difficulty = draw_scene(
            source, int(row['seed']), 64, max_digits=4)
        assert image['difficulty'] == pytest.approx(difficulty, abs=1e-6)
        own = [
            a for a in content['annotations'] if a['image_id'] == image['id']
        ]
        assert [a['category_id'] - 1
                for a in own] == [source.labels[p] for p in positions]
        boxes = [[x, y, x + w, y + h]
                 for x, y, w, h in (a['bbox'] for a in own)]
        assert np.array_equal(boxes, scene.boxes)
        assert [a['ink'] for a in own] == [m.sum() for m in scene.masks]


def test_no_digit_is_in_two_splits(made):
    used = {}
    for split in ('train', 'test'):
        rows = csv.DictReader(open(made / f'{split}.csv', newline=''))
        used[split] = {
            digit.split()[1]
            for row in rows
            for digit in row['digits'].split(';')
        }
    assert used['train'] and not used['train'] & used['test']


def test_a_finished_folder_is_reused(made):
    assert not SceneFolder(**SMALL).write(made)
    with pytest.raises(FileExistsError, match='max_digits is 4 and not 5'):
        SceneFolder(**{**SMALL, 'max_digits': 5}).write(made)


def test_an_interrupted_run_goes_on(made, tmp_path, monkeypatch):
    monkeypatch.setattr(folder, '_CHUNK', 4)

    def stop(done, total):
        if done >= 8:
            raise KeyboardInterrupt

    root = tmp_path / 'scenes'
    with pytest.raises(KeyboardInterrupt):
        SceneFolder(**SMALL).write(root, progress=stop)
    assert not root.exists()
    assert SceneFolder(**SMALL).write(root)
    for split in ('train', 'test'):
        assert read(root, split) == read(made, split)


@pytest.mark.parametrize('change, error', [
    (dict(max_digits=0), 'max_digits must be at least 1, got 0'),
    (dict(size=16), 'size must be at least 32, got 16'),
])
def test_refuses_parameters(change, error):
    with pytest.raises(ValueError, match=error):
        SceneFolder(**{**SMALL, **change})
