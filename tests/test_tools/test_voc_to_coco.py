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
