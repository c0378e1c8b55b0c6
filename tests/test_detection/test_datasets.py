# Copyright (c) mmdynperceiver contributors. All rights reserved.
import json

import pytest
from mmdet.registry import DATASETS
from tiny_detector import make_scenes, write_annotations

from mmdynperceiver.errors import InputError


def build(path, classes=('a', 'b'), **kwargs):
    return DATASETS.build(
        dict(
            type='mmdet.CheckedCocoDataset',
            ann_file=str(path),
            data_prefix=dict(img=str(path.parent) + '/'),
            metainfo=dict(classes=classes),
            pipeline=[],
            **kwargs))


def boxes_of(dataset):
    return [instance['bbox'] for instance in dataset[0]['instances']]


def test_good_boxes_are_taken_as_they_are(tmp_path):
    dataset = build(write_annotations(tmp_path, [[1, 2, 10, 20]]))
    assert boxes_of(dataset) == [[1, 2, 11, 22]]


def test_scenes_of_the_generator(tmp_path):
    root = make_scenes(tmp_path / 'scenes', train=3, val=0, test=0)
    dataset = build(
        root / 'annotations/train.json', classes=tuple('0123456789'))
    index = (root / 'train.csv').read_text().splitlines()[1:]
    for info, row in zip((dataset[i] for i in range(3)), index):
        digits = [d.split() for d in row.split(',')[3].split(';')]
        assert [i['bbox_label']
                for i in info['instances']] == [int(d[0]) for d in digits]
        assert [i['bbox'] for i in info['instances']
                ] == [[int(v) for v in d[2:6]] for d in digits]


def test_a_box_partly_outside_is_cut(tmp_path):
    path = write_annotations(tmp_path, [[30, -5, 20, 20], [30, 30, 10.5, 5]])
    # Half a pixel is within what annotations usually miss by.
    assert boxes_of(build(path)) == [[30, 0, 40, 15], [30, 30, 40.5, 35]]


def test_an_empty_file_is_refused(tmp_path):
    path = write_annotations(tmp_path, [])
    with pytest.raises(InputError, match='1 images and no annotation'):
        build(path)
    assert len(build(path, test_mode=True)) == 1  # nothing is learned here
    path.write_text(json.dumps(dict(images=[], annotations=[], categories=[])))
    with pytest.raises(InputError, match='lists no images'):
        build(path, test_mode=True)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match='no annotation file .*none.json'):
        build(tmp_path / 'none.json')


def test_classes_that_are_no_categories(tmp_path):
    path = write_annotations(tmp_path, [[1, 2, 10, 20]])
    with pytest.raises(InputError) as caught:
        build(path, classes=('a', 'dog'))
    assert "'dog'" in str(caught.value) and "'a', 'b'" in str(caught.value)
    # A choice of the categories is not a mistake.
    assert boxes_of(build(path, classes=('a', ))) == [[1, 2, 11, 22]]


def test_refuses_options(tmp_path):
    path = write_annotations(tmp_path, [[1, 2, 10, 20]])
    with pytest.raises(ValueError, match="raise, skip, got 'no'"):
        build(path, on_bad_box='no')
