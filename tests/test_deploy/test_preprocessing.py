# Copyright (c) mmdynperceiver contributors. All rights reserved.
import numpy as np
import pytest
import torch
from PIL import Image
from tiny import png_header

from mmdynperceiver.deploy import Preprocessing
from mmdynperceiver.deploy.pipeline import read_preprocessing
from mmdynperceiver.deploy.preprocessing import list_images
from .conftest import PREPROCESSING

NORMALISE = dict(
    type='mmpretrain.ClsDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True)


def load(**settings):
    return dict(type='LoadImageFromFile', **settings)


def resize_edge(**settings):
    return dict(type='ResizeEdge', **settings)


CROP = dict(type='CenterCrop', crop_size=48)
PACK = dict(type='PackInputs')
PILLOW = dict(backend='pillow', interpolation='bicubic')
PIPELINES = {
    'imagenet': [
        load(imdecode_backend='pillow'),
        resize_edge(scale=56, edge='short', **PILLOW), CROP, PACK
    ],
    'opencv': [
        load(),
        resize_edge(scale=56, edge='short'),
        dict(type='mmpretrain.CenterCrop', crop_size=(40, 48)), PACK
    ],
    'stretch':
    [load(),
     dict(type='Resize', scale=(40, 48), interpolation='area'), PACK],
    'stretch-pillow': [
        load(imdecode_backend='pillow'),
        dict(
            type='Resize', scale=48, backend='pillow', interpolation='lanczos')
    ],
    'width': [load(), resize_edge(scale=90, edge='width'), CROP, PACK],
    'long': [
        load(),
        resize_edge(scale=90, edge='long', interpolation='nearest'), CROP, PACK
    ]
}


@pytest.mark.parametrize('to_rgb', [True, False])
@pytest.mark.parametrize('name', PIPELINES)
def test_equals_mmpretrain(photos, name, to_rgb):
    """To the last bit, on files of several kinds."""
    pytest.importorskip('mmpretrain')
    from mmengine.dataset import Compose, pseudo_collate
    from mmengine.registry import init_default_scope
    from mmpretrain.registry import MODELS, TRANSFORMS
    init_default_scope('mmpretrain')
    settings = dict(NORMALISE, to_rgb=to_rgb)
    pipeline = [
        step for step in PIPELINES[name] if step['type'] != 'PackInputs'
    ]
    theirs = Compose([TRANSFORMS.build(step) for step in (*pipeline, PACK)])
    normalise = MODELS.build(settings)
    ours = Preprocessing(**read_preprocessing(PIPELINES[name], settings))
    for path in list_images(photos):
        sample = theirs(dict(img_path=path))
        expected = normalise(pseudo_collate([sample]))['inputs'][0]
        np.testing.assert_array_equal(ours(path), expected, err_msg=path)


def test_reads_the_size_from_the_pipeline():
    found = read_preprocessing(PIPELINES['opencv'], NORMALISE)
    assert found['size'] == [48, 40] and found['decoder'] == 'cv2'
    found = read_preprocessing([load()], dict(NORMALISE), size=(32, 40))
    assert found['size'] == [32, 40] and found['steps'] == []
    found = read_preprocessing([load()], dict(to_rgb=True), size=(32, 40))
    assert found['mean'] == [0, 0, 0] and found['std'] == [1, 1, 1]


@pytest.mark.parametrize('pipeline, settings, size, message', [
    ([load(), dict(type='RandomFlip')], NORMALISE,
     (8, 8), "'RandomFlip', which cannot be exported; these can: Load"),
    ([load()], NORMALISE, None, 'say which one they have with --size'),
    ([load(), CROP], NORMALISE, (8, 8), 'makes images of 48x48.*says 8x8'),
    ([load(imdecode_backend='tifffile')], NORMALISE, (8, 8), "'tifffile'"),
    ([load(color_type='grayscale')], NORMALISE, (8, 8), "'grayscale'"),
    ([load(), dict(type='Resize', scale=8, keep_ratio=True)
      ], NORMALISE, None, 'no keep_ratio'),
    ([load(), dict(CROP, auto_pad=True)], NORMALISE, None, 'auto_pad'),
    ([resize_edge(scale=8, backend='pillow', interpolation='area')], NORMALISE,
     (8, 8), "'pillow' with the interpolation 'area'"),
    ([load()], dict(type='ActionDataPreprocessor'),
     (8, 8), 'only a ClsDataPreprocessor'),
    ([load()], dict(NORMALISE, pad_size_divisor=32), (8, 8), 'divisor=32'),
    ([load()], dict(NORMALISE, mean=[1], std=[1]), (8, 8), '3 channels'),
])
def test_refuses_what_it_cannot_repeat(pipeline, settings, size, message):
    with pytest.raises(ValueError, match=message):
        read_preprocessing(pipeline, settings, size)


@pytest.fixture
def plain():
    return Preprocessing((48, 48), (0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize('image, error, message', [
    ('nowhere.png', FileNotFoundError, "no image file 'nowhere.png'"),
    (7, TypeError, 'a path, a PIL image or an array .*, got an int'),
    (torch.zeros(3, 48, 48), TypeError,
     r'got a tensor of float32 \(3, 48, 48\); Runner.predict takes'),
    (np.zeros((48, 48), np.uint8), ValueError,
     r'got a NumPy array of uint8 \(48, 48\): repeat a grey image'),
    (np.zeros((48, 48, 3)), ValueError, 'of float64 .*: give the pixels from'),
    (np.zeros((3, 48, 48), np.uint8), ValueError, r'transpose\(1, 2, 0\)'),
    (np.zeros((48, 48, 4), np.uint8), ValueError, r'image\[..., :3\]'),
    (np.zeros((2, 48, 48, 3), np.uint8), ValueError, 'as a list of images'),
    (np.zeros(
        (40, 48, 3),
        np.uint8), ValueError, r'uint8 \(40, 48, 3\) is 40x48 .* takes 48x48'),
    (Image.new('RGB', (48, 40)), ValueError,
     r'a PIL image \(RGB, 48x40\) is 40x48 .* takes 48x48'),
])
def test_refuses_images(plain, image, error, message):
    with pytest.raises(error, match=message):
        plain(image)


@pytest.mark.parametrize('decoder', ['pillow', 'cv2'])
@pytest.mark.parametrize('content', [b'', b'no image', b'\x89PNG\r\n\x1a\n'])
def test_names_a_broken_file(tmp_path, decoder, content):
    path = tmp_path / 'broken.png'
    path.write_bytes(content)
    with pytest.raises(ValueError, match='broken.png'):
        Preprocessing((8, 8), (0, 0, 0), (1, 1, 1), decoder)(path)


@pytest.mark.parametrize('decoder', ['pillow', 'cv2'])
def test_takes_the_bytes_of_a_file(photos, decoder):
    prepare = Preprocessing(**dict(PREPROCESSING, decoder=decoder))
    for path in photos.iterdir():
        np.testing.assert_array_equal(
            prepare(path.read_bytes()), prepare(path))
    for content, message in ((b'no image', '8 bytes'), (b'', '0 bytes'),
                             (png_header(65535, 65535), 'MMDYNPERCEIVER_MAX')):
        with pytest.raises(ValueError, match=message):
            prepare(content)


def test_names_a_cut_off_file(photos, tmp_path, plain):
    whole = next(path for path in photos.iterdir() if path.suffix == '.jpg')
    path = tmp_path / 'cut.jpg'
    path.write_bytes(whole.read_bytes()[:-400])
    with pytest.raises(ValueError, match='cut.jpg'):
        plain(path)
    with Image.open(path) as image, \
            pytest.raises(ValueError, match='PIL image .*cut.jpg'):
        plain(image)


@pytest.mark.parametrize('decoder', ['pillow', 'cv2'])
def test_large_images_are_refused_before_they_are_decoded(
        tmp_path, monkeypatch, decoder):
    prepare = Preprocessing((8, 8), (0, 0, 0), (1, 1, 1), decoder)
    path = tmp_path / 'bomb.png'
    path.write_bytes(png_header(65535, 65535))
    with pytest.raises(ValueError, match='bomb.png.*MMDYNPERCEIVER_MAX'):
        prepare(path)
    Image.new('RGB', (8, 8)).save(path)
    assert prepare(path).shape == (3, 8, 8)
    prepare.max_pixels = 63
    with pytest.raises(ValueError, match='8x8 pixels, more than .* of 63'):
        prepare(path)
    prepare.max_pixels = None
    monkeypatch.setenv('MMDYNPERCEIVER_MAX_PIXELS', '10')
    with pytest.raises(ValueError, match='more than the limit of 10'):
        prepare(path)
    monkeypatch.setenv('MMDYNPERCEIVER_MAX_PIXELS', 'many')
    with pytest.raises(ValueError, match="whole number, got 'many'"):
        prepare(path)


def test_a_raised_limit_holds_in_pillow(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 20)
    path = tmp_path / 'image.png'
    Image.new('RGB', (8, 8)).save(path)
    prepare = Preprocessing((8, 8), (0, 0, 0), (1, 1, 1))
    prepare.max_pixels = 40
    with pytest.raises(ValueError, match='image.png'):
        prepare(path)
    prepare.max_pixels = 64
    assert prepare(path).shape == (3, 8, 8)


@pytest.mark.parametrize('library', ['pillow', 'cv2'])
def test_names_an_image_that_cannot_be_resized(tmp_path, library):
    """One that is so thin that nothing of it would be left."""
    step = dict(
        kind='resize_edge',
        size=8,
        edge='long',
        interpolation='bilinear',
        library=library)
    path = tmp_path / 'thin.png'
    Image.new('RGB', (1000, 1)).save(path)
    named = "cannot resize or crop '.*thin.png"
    with pytest.raises(ValueError, match=named):
        Preprocessing((8, 8), (0, 0, 0), (1, 1, 1), steps=[step])(path)
    # Or so that too much would be made of it.
    step.update(size=1000, edge='short')
    with pytest.raises(ValueError, match=f'{named}.*1000000x1000 pixels'):
        Preprocessing((8, 8), (0, 0, 0), (1, 1, 1), steps=[step])(path)


def test_pil_images_equal_their_files(photos):
    prepare = Preprocessing(**PREPROCESSING)
    for path in list_images(photos):
        with Image.open(path) as image:
            np.testing.assert_array_equal(prepare(image), prepare(path), path)


def test_lists_images_below_a_folder(photos, tmp_path):
    assert len(list_images(photos)) == 6
    (tmp_path / 'notes.txt').write_text('none')
    with pytest.raises(FileNotFoundError, match='no image in'):
        list_images(tmp_path)
