# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Damaged annotation files: an error that names the entry, or a count."""
import json
import random

import pytest
from mmdet.registry import DATASETS, METRICS
from mmengine.logging import MMLogger
from PIL import Image

from mmdynperceiver.errors import InputError

POLYGON = [[5, 5, 25, 5, 25, 25]]
ANNOTATION = dict(
    bbox=[5, 5, 20, 20], area=400, iscrowd=0, segmentation=POLYGON)
LOAD = [
    dict(type='LoadImageFromFile'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True),
    dict(type='mmdet.PackDetInputs')
]


@pytest.fixture
def root(tmp_path):
    for number in range(3):
        Image.new('RGB', (96, 64)).save(tmp_path / f'{number}.png')
    return tmp_path


@pytest.fixture
def warnings(monkeypatch):
    """What is logged, line by line."""
    lines = []
    logger = MMLogger.get_instance('test_annotations')
    monkeypatch.setattr(MMLogger, 'log',
                        lambda self, level, text: lines.append(text))
    monkeypatch.setattr(MMLogger, 'get_current_instance',
                        classmethod(lambda cls: logger))
    return lines


def content(number=3):
    return dict(
        images=[
            dict(id=i, file_name=f'{i}.png', width=96, height=64)
            for i in range(number)
        ],
        categories=[dict(id=1, name='cat'),
                    dict(id=2, name='dog')],
        annotations=[
            dict(ANNOTATION, id=i + 1, image_id=i, category_id=1 + i % 2)
            for i in range(number)
        ])


def write(root, data):
    path = root / 'a.json'
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return str(path)


def build(root, data, pipeline=LOAD, classes=('cat', 'dog'), **options):
    settings = dict(
        type='mmdet.CheckedCocoDataset',
        ann_file=write(root, data),
        data_prefix=dict(img=str(root)),
        metainfo=dict(classes=classes),
        pipeline=pipeline,
        serialize_data=False)  # or each collects the garbage
    return DATASETS.build({**settings, **options})


def metric(root, data, **options):
    settings = dict(type='mmdet.CheckedCocoMetric', ann_file=write(root, data))
    return METRICS.build({**settings, **options})


def boxes(dataset):
    return [
        len(data['instances'])
        for data in map(dataset.get_data_info, range(len(dataset)))
    ]


BAD = [
    (dict(bbox=None), 'bbox None', 'have no box of four numbers'),
    (dict(bbox=[]), r'bbox \[\]', 'have no box of four numbers'),
    (dict(bbox=['5', '5', '9', '9']), "bbox .'5'", 'no box of four numbers'),
    (dict(bbox=[5, 5, 20]), 'bbox .5, 5, 20', 'no box of four numbers'),
    (dict(bbox=[5, 5, float('nan'), 20]), 'bbox .*nan', 'no box of four'),
    (dict(bbox=[5, 5, float('inf'), 20]), 'bbox .*inf', 'no box of four'),
    (dict(bbox=[5, 5, True, 20]), 'bbox .*True', 'no box of four'),
    (dict(bbox=[5, 5, 10**400, 20]), 'bbox .*0000', 'no box of four'),
    (dict(bbox={}), 'bbox {}', 'no box of four'),
    (dict(bbox=[25, 25, -20, -20]), 'bbox .25', 'empty or outside'),
    (dict(bbox=[200, 5, 20, 20]), 'bbox .200', 'empty or outside'),
    (dict(bbox=[5, 5, 0, 20]), 'bbox .5, 5, 0', 'empty or outside'),
    (dict(bbox=[5, 5, .5, 20]), 'bbox .5, 5, 0.5', 'smaller than a pixel'),
    (dict(bbox=[95.5, 5, 20, 20]), 'bbox .95.5', 'smaller than a pixel'),
    (dict(area=0), 'area 0', 'have no positive area'),
    (dict(area=-1), 'area -1', 'have no positive area'),
    (dict(area='400'), "area '400'", 'have no number as area'),
    (dict(area=float('nan')), 'area nan', 'have no number as area'),
    (dict(iscrowd='0'), "iscrowd '0'", 'iscrowd of neither 0 nor 1'),
    (dict(category_id=77), 'category_id 77.* ids 1, 2', 'a category that it'),
    (dict(category_id=[1]), r'category_id \[1\]', 'a category that it'),
    (dict(category_id=None), 'category_id None', 'a category that it does'),
    (dict(image_id=77), 'image_id 77.* ids 0, 1, 2', 'for images that it'),
    (dict(image_id='0'), "image_id '0'", 'for images that it does not list'),
]


@pytest.mark.parametrize('edit, named, counted', BAD)
def test_a_bad_annotation_is_named_or_counted(root, warnings, edit, named,
                                              counted):
    data = content()
    data['annotations'][1].update(edit)
    named = f'^annotation 2 .*a.json.*{named}'
    with pytest.raises(InputError, match=named) as caught:
        build(root, data)
    assert '\n' not in str(caught.value)
    assert "on_bad_box='skip'" in str(caught.value)
    # Where there is one, the image is named.
    for text in ('1.png', '96x64'):
        assert (text in str(caught.value)) == ('image_id' not in edit)
    assert boxes(build(root, data, on_bad_box='skip')) == [1, 0, 1]
    line = next(line for line in warnings if 'left out' in line)
    assert '1 of 3 annotations: 1 ' in line and counted in line
    for annotation in data['annotations']:
        annotation.update(edit)
    with pytest.raises(InputError, match='3 of 3|no box to learn from'):
        build(root, data, on_bad_box='skip')


@pytest.mark.parametrize('key', ['bbox', 'image_id', 'category_id', 'id'])
def test_a_missing_key_is_named(root, key):
    data = content()
    del data['annotations'][1][key]
    with pytest.raises(InputError, match=f"2 of .*a.json.* no '{key}'"):
        build(root, data)


def test_what_may_be_missing_and_what_is_loud(root, warnings):
    data = content()
    for annotation in data['annotations'][:2]:
        for key in ('area', 'iscrowd', 'segmentation'):
            del annotation[key]
    assert boxes(build(root, data)) == [1, 1, 1]
    for annotation in data['annotations'][:2]:
        annotation['area'] = 0
    build(root, data, on_bad_box='skip')
    for text in ('2 of 3 annotations have no area', 'MORE THAN HALF'):
        assert any(text in line for line in warnings)


@pytest.mark.parametrize('policy', ['raise', 'skip'])
@pytest.mark.parametrize('box', [[.1, .1, .3, .3], [0, 0, 1, 1]])
def test_boxes_that_are_shares_of_the_image(root, policy, box):
    data = content()
    for annotation in data['annotations']:
        annotation['bbox'] = box
    for test_mode in (False, True):
        with pytest.raises(InputError, match='3 of 3 boxes are in .0, 1.: '):
            build(root, data, on_bad_box=policy, test_mode=test_mode)
    with pytest.raises(InputError, match='3 of 3 boxes are in'):
        metric(root, data, on_bad_box=policy)


def test_boxes_that_are_corners(root, warnings):
    data = content()
    for annotation in data['annotations']:
        annotation['bbox'] = [50, 30, 80, 60]
    with pytest.raises(InputError, match=r'3 of 3 .*corners \(x1, y1, x2'):
        build(root, data)
    assert boxes(build(root, data, on_bad_box='skip')) == [1, 1, 1]
    for text in ('corners', 'cut 3 of 3 boxes'):
        assert any(text in line for line in warnings)


@pytest.mark.parametrize('key, why', [('iscrowd', '3 are crowds'),
                                      ('ignore', "3 are marked 'ignore'")])
def test_nothing_to_learn_from(root, key, why):
    data = content()
    for annotation in data['annotations']:
        annotation[key] = 1
    for policy in ('raise', 'skip'):
        with pytest.raises(InputError, match=f'no box to learn.*{why}'):
            build(root, data, on_bad_box=policy)
    assert boxes(build(root, data, test_mode=True))
    if key == 'iscrowd':
        with pytest.raises(InputError, match='only crowds'):
            metric(root, data)


@pytest.mark.parametrize('path, value, named', [
    (('images', 1, 'width'), None, "image 1 .*1.png.* no 'width'"),
    (('images', 1, 'height'), '64', "image 1 .*height '64'"),
    (('images', 1, 'width'), -5, 'width -5'),
    (('images', 1, 'width'), float('nan'), 'width nan'),
    (('images', 1, 'file_name'), None, "image 1 .* no 'file_name'"),
    (('images', 1, 'file_name'), 7, 'file_name 7'),
    (('images', 1, 'id'), None, "image number 2 .* no 'id'"),
    (('images', 1, 'id'), 0, 'two entries for the image 0'),
    (('images', 1, 'id'), 'one', 'whole numbers for some'),
    (('annotations', 1, 'id'), 1, 'two entries for the annotation 1'),
    (('annotations', 1), 'x', "'annotations' is no list of objects"),
    (('annotations', ), {}, "'annotations' is no list of objects"),
    (('images', ), None, 'lists no images'),
    (('categories', 1, 'name'), None, "category 2 .* no 'name'"),
    (('categories', 1, 'name'), 'cat', "two categories of the name 'cat'"),
    (('categories', 1, 'id'), 1, 'two entries for the category 1'),
])
def test_a_bad_entry_is_named(root, path, value, named):
    data = owner = content()
    *owners, key = path
    for name in owners:
        owner = owner[name]
    owner[key] = value
    if value is None:
        del owner[key]
    for make in (build, metric):
        with pytest.raises(InputError, match=named) as caught:
            make(root, data)
        assert 'a.json' in str(caught.value)
        assert '\n' not in str(caught.value)


@pytest.mark.parametrize('text', [
    '', '[]', '7', 'null', '{"images": [', '[' * 100_000, '{"a":' * 100_000,
    '{"images": [' + '9' * 5000 + ']}', '\x00\x01'
])
def test_another_file_is_named(root, text):
    for make in (build, metric):
        with pytest.raises(InputError, match='a.json') as caught:
            make(root, text)
        assert '\n' not in str(caught.value)
        assert len(str(caught.value)) < 500
    # A byte-order mark is no fault.
    assert boxes(build(root, '\ufeff' + json.dumps(content()))) == [1, 1, 1]


def test_classes_have_the_order_of_the_file(root):
    """The host numbers labels in the order of the file."""
    with pytest.raises(InputError, match="order 'cat', 'dog'.*'dog', 'cat'"):
        build(root, content(), classes=('dog', 'cat'))
    evaluator = metric(root, content())
    for classes, message in ((('dog', 'cat'), 'order'),
                             (('bird', ), "categories of .*'bird'")):
        with pytest.raises(InputError, match=message):
            evaluator.dataset_meta = dict(classes=classes)


def test_images_without_boxes_and_listed_twice(root, warnings):
    data = content()
    data['annotations'].pop()
    data['images'].append(dict(data['images'][0], id=9))
    assert boxes(build(root, data)) == [1, 1, 0, 0]
    kept = build(root, data, filter_cfg=dict(filter_empty_gt=True))
    assert boxes(kept) == [1, 1]
    for text in ('2 of 4 images have no box', "more than once: '0.png'",
                 'leaves out 2 of 4 images'):
        assert any(text in line for line in warnings)
    with pytest.raises(InputError, match='leaves out 4 of 4 images'):
        build(root, data, filter_cfg=dict(min_size=500))


def test_missing_files(root, warnings):
    (root / '1.png').unlink()
    with pytest.raises(InputError, match='1 of the 3 images .*1.png'):
        build(root, content())
    for test_mode in (False, True):
        kept = build(root, content(), on_broken='skip', test_mode=test_mode)
        assert len(kept) == 2
    assert any('left out: 1 of the 3 images' in line for line in warnings)
    (root / '0.png').unlink(), (root / '2.png').unlink()
    with pytest.raises(InputError, match='3 of the 3 images'):
        build(root, content(), on_broken='skip')


@pytest.mark.parametrize('damage, named', [
    (lambda path: path.write_bytes(b'no image'), 'not an image'),
    (lambda path: path.write_bytes(b''), 'not an image'),
    (lambda path: Image.new('RGB', (64, 96)).save(path),
     '64x96 pixels, turned .* for 96x64'),
    (lambda path: Image.new('RGB', (48, 32)).save(path), '48x32 pixels'),
])
def test_files_that_do_not_fit(root, warnings, damage, named):
    damage(root / '1.png')
    for test_mode in (False, True):
        data = build(root, content(), test_mode=test_mode)
        with pytest.raises(InputError, match=f'1.png.*{named}'):
            data[1]
    train = build(root, content(), on_broken='skip')
    assert all(train[1]['data_samples'].img_id in (0, 2) for _ in range(3))
    assert train.num_broken == 1
    test = build(root, content(), on_broken='skip', test_mode=True)
    assert [test[i]['data_samples'].img_id for i in range(len(test))] == [0, 2]
    assert sum('skipped broken image' in line for line in warnings) == 2


MASKS = [
    None, [], [[1, 2, 3, 4]], [[1, 2, 3, 4, 5, 6, 7]], ['text'], 'text',
    [[1, 2, 3, 4, 5, float('nan')]],
    dict(size=[64, 96]),
    dict(size=[96, 64], counts=[96 * 64]),
    dict(size=[64, 96], counts=[5]),
    dict(size=[64, 96], counts=[-1, 64 * 96 + 1])
]


@pytest.mark.parametrize('mask', MASKS)
def test_masks_are_checked_where_they_are_needed(root, mask):
    data = content()
    data['annotations'][1]['segmentation'] = mask
    assert boxes(build(root, data)) == [1, 1, 1]
    metric(root, data)
    pipeline = [LOAD[0], dict(LOAD[1], with_mask=True), LOAD[2]]
    for make, options in ((build, dict(pipeline=pipeline)),
                          (metric, dict(metric=['bbox', 'segm']))):
        with pytest.raises(InputError, match='annotation 2 .*segmentation'):
            make(root, data, **options)
        make(root, data, on_bad_box='skip', **options)
    for good in (POLYGON, dict(size=[64, 96], counts=[10, 64 * 96 - 10])):
        data['annotations'][1]['segmentation'] = good
        masks = build(root, data, pipeline=pipeline)[1]['data_samples']
        assert len(masks.gt_instances.masks) == 1


def test_random_damage_is_an_error_of_one_line_or_a_data_set(root):
    rng = random.Random(0)
    junk = [None, -1, 0, 1e308, 10**30, True, 'a', '', [], [1], {}, [[]]]
    refused = 0
    for _ in range(300):
        data = content()
        for _ in range(rng.randint(1, 2)):
            part = rng.choice(list(data))
            entry = rng.choice(data[part])
            entry[rng.choice(list(entry))] = rng.choice(junk)
        for make in (build, metric):
            options = dict(on_bad_box=rng.choice(['raise', 'skip']))
            try:
                made = make(root, data, **options)
                assert make is metric or sum(boxes(made)) > 0
            except InputError as error:
                refused += 1
                assert 'a.json' in str(error) and '\n' not in str(error)
    assert 100 < refused < 600
