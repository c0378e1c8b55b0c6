# Copyright (c) mmdynperceiver contributors. All rights reserved.
import json

import pytest

TOOL = 'dataset_converters/voc_to_coco'
OBJECT = '''<object><name>{name}</name>{more}<bndbox><xmin>{0}</xmin>
<ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox></object>'''


def annotations(*objects, size=(40, 30)):
    body = ''.join(
        OBJECT.format(*box, name=name, more=more)
        for name, box, more in objects)
    return (f'<annotation><filename>other name</filename><size><width>'
            f'{size[0]}</width><height>{size[1]}</height></size>{body}'
            f'</annotation>')


@pytest.fixture
def root(make_files):
    return make_files({
        'Annotations/a.xml':
        annotations(('cat', (1, 2, 11, 22), ''),
                    ('ant', (5, 5, 9, 8), '<difficult>1</difficult>')),
        'Annotations/b.xml':
        annotations(),
        'JPEGImages/a.jpg':
        '',
        'JPEGImages/b.png':
        '',
        'ImageSets/Main/train.txt':
        'a\nb\n',
        'ImageSets/Main/test.txt':
        'b 1\n',
    })


def test_writes_what_coco_holds(root, tool):
    output, error = tool(TOOL, root, '--sets', 'train', 'test')
    assert error is None, error
    content = json.loads((root / 'annotations/train.json').read_text())
    assert [(i['id'], i['file_name'], i['width'], i['height'])
            for i in content['images']] == [(1, 'a.jpg', 40, 30),
                                            (2, 'b.png', 40, 30)]
    assert [c['name'] for c in content['categories']] == ['ant', 'cat']
    cat, ant = content['annotations']
    assert (cat['bbox'], cat['category_id'],
            cat['iscrowd']) == ([1, 2, 10, 20], 2, 0)
    assert (ant['id'], ant['image_id'], ant['iscrowd']) == (2, 1, 1)
    assert '2 images, 2 boxes of ant, cat' in output
    assert json.loads(
        (root / 'annotations/test.json').read_text())['annotations'] == []


def test_does_not_replace_files_unasked(root, tool):
    for options, refused in (([], False), ([], True), (['--overwrite'],
                                                       False)):
        _, error = tool(TOOL, root, '--sets', 'train', *options)
        assert bool(error) == refused
        assert not refused or '--overwrite' in error


@pytest.mark.parametrize('name, text, message', [
    ('ImageSets/Main/train.txt', '', 'is empty'),
    ('ImageSets/Main/train.txt', 'c\n', 'c.xml'),
    ('Annotations/a.xml', '<annotation>', 'does not hold annotations'),
    ('Annotations/a.xml', '<annotation/>', 'does not hold annotations'),
    ('Annotations/a.xml', '<?xml version="1.0" encoding="hex"?><annotation/>',
     'not a text encoding'),
    ('Annotations/a.xml', annotations(size=(0, 30)), 'the size 0x30'),
    ('Annotations/a.xml', annotations(('cat', (1, 2, 'nan', 9), '')), 'nan'),
    ('Annotations/a.xml', annotations(('cat', (9, 2, 1, 9), '')), "'9', '2'"),
    ('Annotations/a.xml', annotations(('', (1, 2, 3, 9), '')), 'has no name'),
    ('Annotations/a.xml', annotations(
        ('cat',
         (1, 2, 3, 9), '')).replace('ymax', 'bottom'), 'lacks a corner'),
    ('ImageSets/Main/train.txt', 'a\nb\na\n', "'a' is there twice"),
])
def test_bad_files_are_named(root, tool, name, text, message):
    (root / name).write_text(text)
    _, error = tool(TOOL, root, '--sets', 'train')
    assert message in error and '\n' not in error
    assert not (root / 'annotations/train.json').exists()


def test_missing_images_and_other_classes(root, tool):
    _, error = tool(TOOL, root, '--sets', 'train', '--classes', 'cat')
    assert "the class 'ant', which is none of cat" in error
    (root / 'JPEGImages/a.jpg').unlink()
    _, error = tool(TOOL, root, '--sets', 'train')
    assert 'there is no image' in error
    _, error = tool(TOOL, root)
    assert 'val.txt' in error


def test_names_are_not_patterns_and_not_beginnings(root, tool):
    """Of 'a', neither a.b.jpg nor what stars and brackets may stand for."""
    (root / 'JPEGImages/a.b.jpg').touch()
    for name in ('a[1]', 'b'):
        (root / f'Annotations/{name}.xml').write_text(annotations())
        (root / f'JPEGImages/{name}.png').touch()
    (root / 'ImageSets/Main/train.txt').write_text('a\na[1]\nb\n')
    _, error = tool(TOOL, root, '--sets', 'train')
    assert error is None, error
    content = json.loads((root / 'annotations/train.json').read_text())
    assert [image['file_name']
            for image in content['images']] == ['a.jpg', 'a[1].png', 'b.png']


def test_boxes_that_training_cannot_use_are_counted(root, tool):
    (root / 'Annotations/a.xml').write_text(
        annotations(('cat', (1, 2, 1, 22), ''), ('cat', (50, 2, 60, 22), ''),
                    ('cat', (1, 2, 11, 22), '')))
    output, error = tool(TOOL, root, '--sets', 'train')
    assert error is None, error
    assert '2 of them are empty or outside' in output
