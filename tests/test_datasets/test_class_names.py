# Copyright (c) mmdynperceiver contributors. All rights reserved.
from types import SimpleNamespace

import pytest

from mmdynperceiver.datasets.class_names import (check_data_classes,
                                                 checkpoint_classes,
                                                 choose_class_names,
                                                 config_num_classes)
from mmdynperceiver.errors import InputError

KNOWN = ['ant', 'bee', 'cow']


def content(classes):
    return dict(meta=dict(dataset_meta=dict(classes=classes)))


def data(classes, source='folders', **others):
    metainfo = dict(classes=classes) if classes else {}
    return SimpleNamespace(metainfo=metainfo, classes_from=source, **others)


def check(dataset, known=KNOWN, **others):
    return check_data_classes('val data', dataset, 3, known, **others)


@pytest.mark.parametrize('classes', [('bee', 'cow'), ('ant', 'cow'),
                                     ('ant', 'bee'), ('ant', 'bee', 'dog'),
                                     ('Ant', 'bee', 'cow'),
                                     ('bee', 'ant', 'cow'), ('x', 'y', 'z'),
                                     ('ant', 'bee', 'cow', 'dog')])
def test_folders_are_those_of_training(classes):
    with pytest.raises(InputError) as caught:
        check(data(classes))
    text = str(caught.value)
    for name in set(KNOWN) ^ set(classes):
        assert repr(name) in text
    check(data(('ant', 'bee', 'cow')))


def test_without_names_the_number_counts():
    check(data(('x', 'y', 'z')), known=None)
    check(data(('x', 'y', 'z')), known=['one'])
    with pytest.raises(InputError, match='have 2 classes .* the model has 3'):
        check(data(('x', 'y')), known=None)


def test_titles_cannot_be_compared():
    check(data(('an ant', 'a bee', 'a cow'), 'options'))
    with pytest.raises(InputError, match="missing: 'ant'; unknown: 'an ant'"):
        check(data(('an ant', 'bee', 'cow'), 'options'))
    with pytest.raises(InputError, match='their order differs'):
        check(data(('bee', 'ant', 'cow'), 'options'))


def test_lists_say_the_labels_themselves():
    # The last classes have no images: nothing shifts.
    check(data(('ant', 'bee'), 'paths'))
    with pytest.raises(InputError, match="have 2 classes.*missing: 'ant'"):
        check(data(('bee', 'cow'), 'paths'))
    with pytest.raises(InputError, match='have 2 classes'):
        check(data(('ant', 'bee'), 'paths'), known=None)
    # Folders that are none of classes.
    check(data(('batch1', 'batch2', 'batch3'), 'paths'))


def test_labels_beyond_the_classes():
    check(data(None, num_labels=3))
    with pytest.raises(InputError, match='labels up to 3 .* 3 classes'):
        check(data(None, num_labels=4))
    with pytest.raises(InputError, match='labels up to 4'):
        check(data(None), num_labels=5)


def test_wrappers_hide_nothing():
    wrong, right = data(('bee', 'cow')), data(('ant', 'bee', 'cow'))
    repeated = SimpleNamespace(dataset=wrong)
    joined = SimpleNamespace(datasets=[right, wrong])
    for wrapper in (repeated, joined, SimpleNamespace(dataset=joined)):
        with pytest.raises(InputError, match="missing: 'ant'"):
            check(wrapper)


@pytest.mark.parametrize('classes, expected', [
    (('ant', 'bee', 'cow'), KNOWN),
    (['ant', 'bee', 'cow'], KNOWN),
    (('ant', 'bee'), None),
    (None, None),
    ('ant', None),
])
def test_names_in_checkpoints(classes, expected):
    assert checkpoint_classes(content(classes), 3) == expected
    for other in ({}, dict(meta=None), dict(meta=dict(dataset_meta=None))):
        assert checkpoint_classes(other, 3) is None


def test_class_count_of_configs():
    assert config_num_classes(dict(model=dict(head=dict(num_classes=3)))) == 3
    nested = dict(roi_head=dict(bbox_head=dict(num_classes=4)))
    assert config_num_classes(dict(model=nested)) == 4
    assert config_num_classes(dict(model=dict(head=dict()))) is None


def test_names_for_predictions(tmp_path):
    path = tmp_path / 'names.txt'
    assert choose_class_names(None, content(KNOWN), 3) == KNOWN
    assert choose_class_names(None, {}, 2) == ['0', '1']
    path.write_text('\ufeffeine Ameise\r\neine Biene\r\neine Kuh\r\n\r\n')
    names = choose_class_names(str(path), content(KNOWN), 3)
    assert names == ['eine Ameise', 'eine Biene', 'eine Kuh']
    path.write_text('ant\ncow\nbee\n')
    assert choose_class_names(str(path), {}, 3) == ['ant', 'cow', 'bee']
    with pytest.raises(InputError, match="'cow' in place 1, .* is class 2"):
        choose_class_names(str(path), content(KNOWN), 3)
    with pytest.raises(InputError, match='has 3 class names .* has 4 classes'):
        choose_class_names(str(path), content(KNOWN), 4)
