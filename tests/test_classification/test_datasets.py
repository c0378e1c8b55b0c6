# Copyright (c) mmdynperceiver contributors. All rights reserved.
import os

import numpy as np
import pytest
from mmengine.dataset import pseudo_collate
from mmpretrain.registry import DATASETS
from PIL import Image
from tiny import CLASSES, png_header
from torch.utils.data import DataLoader

import mmdynperceiver.classification  # noqa: F401
from mmdynperceiver.classification import BrokenImageError
from mmdynperceiver.datasets.image_files import list_images
from mmdynperceiver.errors import InputError

PIPELINE = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='PackInputs')
]


def build(root, **kwargs):
    return DATASETS.build({
        'type': 'CheckedImageFolder',
        'data_root': str(root),
        'split': 'train',
        'pipeline': PIPELINE,
        **kwargs
    })


def test_classes_follow_from_the_folders(root):
    dataset = build(root)
    assert dataset.metainfo['classes'] == CLASSES
    assert len(dataset) == 9 and dataset.num_labels == 3
    assert dataset[4]['data_samples'].gt_label.item() == 1


def test_relative_folders(root, monkeypatch):
    monkeypatch.chdir(root.parent)
    for options in (dict(data_root='images'), dict(data_root='./images/'),
                    dict(data_root='', data_prefix='images/train')):
        dataset = build(root, **options)
        assert dataset[8]['inputs'].shape == (3, 32, 32)


def test_annotation_file_of_the_split(root):
    (root / 'meta').mkdir()
    (root / 'meta/train.txt').write_text('bee/1.png 1\nant/0.png 0\n')
    dataset = build(root)
    assert len(dataset) == 2
    assert dataset.metainfo['classes'] == ('ant', 'bee')
    assert dataset[0]['data_samples'].gt_label.item() == 1


def test_flat_annotation_file_leaves_the_classes_open(root):
    (root / 'val/a.png').write_bytes((root / 'val/ant/0.png').read_bytes())
    (root / 'val.txt').write_text('a.png 6\n')
    dataset = build(root, split='val', ann_file='val.txt')
    assert dataset.metainfo.get('classes') is None
    assert dataset.num_labels == 7


@pytest.mark.parametrize('line, message', [
    ('ant/0.png', 'must be a path'),
    ('ant/0.png one', 'must be a path'),
    ('ant/0.png -1', 'line 1 of .*ann.txt.* label -1'),
    ('ant/0.png 3', 'label 3; .* below 3'),
])
def test_refuses_annotations(root, line, message):
    (root / 'ann.txt').write_text(line + '\n')
    with pytest.raises(InputError, match=message):
        build(root, ann_file='ann.txt', classes=CLASSES)


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere.*set data_root'):
        build(tmp_path / 'nowhere')


@pytest.fixture
def listed(tmp_path):
    """Write a list of images."""

    def write(*names):
        path = tmp_path / 'list.txt'
        path.write_text('\n'.join(names) + '\n')
        return str(path)

    return write


@pytest.mark.parametrize('slash', ['', '/'])
def test_leaves_out_a_list(root, listed, slash):
    exclude = listed('train/ant/1.png', 'train/cow/0.png')
    dataset = build(f'{root}{slash}', exclude=exclude)
    paths = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
    assert len(paths) == 7
    assert not any(p.endswith(('ant/1.png', 'cow/0.png')) for p in paths)
    # A class without images keeps its place.
    exclude = listed(*(f'train/bee/{i}.png' for i in range(3)))
    dataset = build(root, exclude=exclude)
    assert dataset.metainfo['classes'] == CLASSES
    assert {int(label) for label in dataset.get_gt_labels()} == {0, 2}


def test_refuses_a_list_for_other_data(root, listed):
    exclude = listed('train/ant/1.png', 'train/ant/9.png', 'ant/0.png')
    with pytest.raises(
            InputError, match='2 of the 3 files .* not in the data'):
        build(root, exclude=exclude)
    exclude = listed(*(f'train/{c}/{i}.png' for c in CLASSES
                       for i in range(3)))
    with pytest.raises(InputError, match='leaves out all 9 samples'):
        build(root, exclude=exclude)
    with pytest.raises(InputError, match='cannot read the list'):
        build(root, exclude='/nowhere.txt')


def test_refuses_empty_annotations(root):
    (root / 'ann.txt').write_text('')
    with pytest.raises(InputError, match='no images in .*ann.txt'):
        build(root, ann_file='ann.txt')


def test_refuses_another_switch(root):
    with pytest.raises(ValueError, match="got 'ignore'"):
        build(root, on_broken='ignore')


def broken_folder(root, kind):
    """Break the second training image of the first class."""
    path = root / 'train/ant/1.png'
    if kind == 'missing':
        names = ''.join(f'{name}/{i}.png {label}\n'
                        for label, name in enumerate(CLASSES)
                        for i in range(3))
        for split in ('train', 'val'):
            (root / f'{split}.txt').write_text(names)
        path.unlink()
        (root / 'val/ant/1.png').unlink()
        return dict(ann_file='train.txt')
    content = path.read_bytes()
    path.write_bytes(b'text' if kind == 'text' else content[:len(content) //
                                                            2] if kind ==
                     'truncated' else b'')
    return {}


KINDS = ('missing', 'text', 'truncated', 'empty')


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('test_mode', [False, True])
def test_a_broken_image_is_named(root, kind, test_mode):
    dataset = build(root, test_mode=test_mode, **broken_folder(root, kind))
    with pytest.raises(BrokenImageError, match=r'train/ant/1\.png'):
        dataset[1]
    assert dataset[0]['inputs'].shape == (3, 32, 32)


@pytest.mark.parametrize('kind', KINDS)
def test_in_training_another_is_drawn(root, kind):
    dataset = build(root, on_broken='skip', **broken_folder(root, kind))
    for _ in range(3):
        assert not dataset[1]['data_samples'].img_path.endswith('ant/1.png')
    assert dataset.num_broken == 1


@pytest.mark.parametrize('kind', KINDS)
def test_in_test_mode_none_counts_twice(root, kind):
    dataset = build(
        root, on_broken='skip', test_mode=True, **broken_folder(root, kind))
    assert len(dataset) == 8 and dataset.num_broken == 1
    paths = [dataset[i]['data_samples'].img_path for i in range(8)]
    assert len(set(paths)) == 8
    assert not any(path.endswith('ant/1.png') for path in paths)


def float_tiff(path):
    """Pillow reads it, OpenCV does not."""
    Image.fromarray(np.zeros((32, 32), np.float32)).save(path)


def bomb(path):
    """Pillow refuses it, OpenCV too."""
    path.write_bytes(png_header(65535, 65535))


def thin(path):
    """Both read it, and nothing would be left of it."""
    Image.new('RGB', (2000, 1)).save(path)


RESIZE = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=32, edge='long'),
    dict(type='PackInputs')
]


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('write', [float_tiff, bomb, thin])
def test_what_the_pipeline_cannot_take_is_broken(root, write, backend):
    """Whatever decoder or step it is that fails."""
    load, resize, pack = RESIZE
    pipeline = [load, dict(resize, backend=backend), pack]
    path = root / 'train/ant/1.png'
    path.unlink()
    path = path.with_suffix('.tif' if write is float_tiff else '.png')
    write(path)
    named = dict(match=f'train/ant/{path.name}')
    with pytest.raises(BrokenImageError, **named):
        build(root, pipeline=pipeline)[1]
    training = build(root, pipeline=pipeline, on_broken='skip')
    assert not training[1]['data_samples'].img_path.endswith(path.name)
    assert training.num_broken == 1
    test = build(root, pipeline=pipeline, on_broken='skip', test_mode=True)
    if write is thin:  # decoded beforehand, but not resized
        with pytest.raises(BrokenImageError, **named):
            test[1]
    else:
        assert len(test) == 8 and test.num_broken == 1


def test_a_decoder_that_reads_nothing_is_named_with_a_file(root):
    for path in (root / 'train').rglob('*.png'):
        float_tiff(path.with_suffix('.tif'))
        path.unlink()
    test = build(root, pipeline=RESIZE, on_broken='skip', test_mode=True)
    with pytest.raises(BrokenImageError, match='0.tif.*decoder of the pipe'):
        test[0]


def test_endings_are_those_of_deployment(root):
    with Image.open(root / 'train/ant/0.png') as image:
        for name in ('a.webp', 'b.TIFF', 'c.pgm'):
            image.convert('L').save(root / 'train/ant' / name)
    (root / 'train/ant/._a.webp').write_bytes(b'hidden')
    os.symlink(root / 'train/ant', root / 'train/ant/loop')
    dataset = build(root)
    paths = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
    assert len(paths) == 12
    assert sorted(paths) == list_images(root / 'train')
    assert dataset[5]['inputs'].shape == (3, 32, 32)


def test_workers_count_in_the_main_process(root):
    broken_folder(root, 'text')
    dataset = build(root, on_broken='skip')
    loader = DataLoader(
        dataset, batch_size=3, num_workers=2, collate_fn=pseudo_collate)
    assert sum(len(batch['inputs']) for batch in loader) == 9
    assert dataset.num_broken == 1


def test_the_error_survives_a_worker(root):
    broken_folder(root, 'text')
    loader = DataLoader(build(root), num_workers=1, collate_fn=pseudo_collate)
    with pytest.raises(BrokenImageError, match=r'ant/1\.png'):
        list(loader)


def test_nothing_readable(root):
    for path in (root / 'train').rglob('*.png'):
        path.write_bytes(b'text')
    with pytest.raises(BrokenImageError, match='none of the 9 images'):
        build(root, on_broken='skip', test_mode=True)


def test_a_fault_of_the_pipeline_stays_what_it_is(root):
    pipeline = [*PIPELINE[:1], lambda results: results['nothing']]
    dataset = build(root, pipeline=pipeline, on_broken='skip')
    with pytest.raises(KeyError, match='nothing'):
        dataset[0]
