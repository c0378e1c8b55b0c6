# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Which label an image gets, from its folder or from a list."""
import os
import shutil

import pytest
from tiny import CLASSES

from mmdynperceiver.classification import CheckedImageFolder
from mmdynperceiver.errors import InputError
from .test_datasets import build


@pytest.mark.parametrize('text', [
    '\ufeffant/0.png 0\r\nbee/1.png 1\r\n\r\n',
    'ant/0.png\t0\n\n\nbee/1.png\t 1\n',
    'ant\\0.png 0\nbee\\1.png 1',
])
def test_annotations_of_spreadsheets(root, text):
    (root / 'ann.txt').write_bytes(text.encode())
    dataset = build(root, ann_file='ann.txt')
    assert [dataset[i]['data_samples'].gt_label.item()
            for i in range(2)] == [0, 1]
    assert dataset.metainfo['classes'] == ('ant', 'bee')


def test_the_wrong_line_is_named(root):
    (root / 'ann.txt').write_text('ant/0.png 0\n\nant/1.png,0\n')
    with pytest.raises(InputError, match=r"line 3 of .*got 'ant/1.png,0'"):
        build(root, ann_file='ann.txt')


def test_names_that_are_not_utf8(root):
    name = os.fsdecode(b'caf\xe9')
    (root / 'train/cow').rename(root / 'train' / name)
    dataset = build(root)
    assert dataset.metainfo['classes'] == ('ant', 'bee', name)
    assert dataset[8]['inputs'].shape == (3, 32, 32)
    (root / 'ann.txt').write_bytes(b'caf\xe9/1.png 2\n')
    dataset = build(root, ann_file='ann.txt')
    assert dataset[0]['inputs'].shape == (3, 32, 32)


def labels(dataset):
    """Label of each folder."""
    return {
        os.path.basename(os.path.dirname(info['img_path'])): info['gt_label']
        for info in map(dataset.get_data_info, range(len(dataset)))
    }


def test_given_names_decide_the_labels(root, tmp_path):
    given = ('cow', 'ant', 'bee')
    assert labels(build(root, classes=given)) == dict(cow=0, ant=1, bee=2)
    names = tmp_path / 'names.txt'
    names.write_text('\ufeffcow\r\nant\r\nbee\r\n\r\n')
    for options in (dict(classes=str(names)),
                    dict(metainfo=dict(classes=str(names)))):
        dataset = build(root, **options)
        assert labels(dataset) == dict(cow=0, ant=1, bee=2)
        assert dataset.metainfo['classes'] == given


def test_a_missing_folder_shifts_nothing(root, monkeypatch):
    told = []
    monkeypatch.setattr(CheckedImageFolder, '_warn', told.append)
    shutil.rmtree(root / 'train/ant')
    for hidden in ('train/.ipynb_checkpoints', 'train/bee/.thumbs'):
        shutil.copytree(root / 'train/cow', root / hidden)
    assert labels(build(root)) == dict(bee=0, cow=1)
    assert len(build(root)) == 6
    assert labels(build(root, classes=CLASSES)) == dict(bee=1, cow=2)
    assert len(told) == 1 and told[0].endswith(": 'ant'")


def test_titles_stand_in_the_order_of_the_folders(root):
    dataset = build(root, classes=('an ant', 'a bee', 'a cow'))
    assert labels(dataset) == dict(ant=0, bee=1, cow=2)


def test_folders_that_are_no_class(root):
    (root / 'train/dog').mkdir()
    with pytest.raises(InputError, match="no class, the first: 'dog'"):
        build(root, classes=CLASSES)
    with pytest.raises(InputError, match="'cow' twice"):
        build(root, classes=(*CLASSES, 'cow', 'dog'))
    with pytest.raises(InputError, match='no images in the class folders'):
        build(root, split='train/ant')
