# Copyright (c) mmdynperceiver contributors. All rights reserved.
import shutil

import pytest
from mmaction.registry import DATASETS

from mmdynperceiver.errors import InputError
from mmdynperceiver.recognition import BrokenVideoError

PACK = [
    dict(type='FormatShape', input_format='NCHW'),
    dict(type='PackActionInputs', meta_keys=('filename', 'frame_dir'))
]
SAMPLE = dict(type='SampleFrames', clip_len=1, num_clips=4, test_mode=True)
VIDEO_PIPELINE = [
    dict(type='DecordInit'),
    dict(type='RequireFrames', min_frames=4), SAMPLE,
    dict(type='DecordDecode'), *PACK
]
FRAMES_PIPELINE = [
    dict(type='RequireFrames', min_frames=4), SAMPLE,
    dict(type='RawFrameDecode'), *PACK
]


def build(root, kind='Video', **changes):
    settings = dict(
        type=f'Checked{kind}Dataset',
        data_root=str(root),
        ann_file='list.txt',
        data_prefix=dict(video='') if kind == 'Video' else dict(img=''),
        pipeline=VIDEO_PIPELINE if kind == 'Video' else FRAMES_PIPELINE)
    if kind == 'Rawframe':
        settings['filename_tmpl'] = '{:05}.jpg'
    return DATASETS.build({**settings, **changes})


@pytest.fixture
def own_videos(videos, tmp_path):
    """A copy to break."""
    return shutil.copytree(videos, tmp_path / 'videos')


@pytest.fixture
def own_frames(frame_folders, tmp_path):
    """A copy to break."""
    return shutil.copytree(frame_folders, tmp_path / 'frames')


def test_videos(videos):
    dataset = build(videos)
    assert (len(dataset), dataset.num_labels) == (6, 3)
    item = dataset[4]
    assert item['inputs'].shape == (4, 3, 32, 32)
    assert item['data_samples'].gt_label.item() == 1
    assert item['data_samples'].filename.endswith('4.avi')


def test_frame_folders(frame_folders):
    dataset = build(frame_folders, 'Rawframe')
    assert dataset[5]['inputs'].shape == (4, 3, 32, 32)
    assert dataset.num_labels == 3


def break_video(root, kind):
    path = root / '1.avi'
    if kind == 'missing':
        path.unlink()
    elif kind == 'empty':
        path.write_bytes(b'')
    elif kind == 'text':
        path.write_text('no video ' * 50)
    else:
        from projects.digits import write_video
        from .conftest import draw_frames
        write_video(path, draw_frames(1, 1, frames=2))


FAULTS = [('missing', 'no such file'), ('empty', 'cannot be decoded'),
          ('text', 'cannot be decoded'), ('short', '2 frames, at least 4')]


@pytest.mark.parametrize('kind, message', FAULTS)
def test_broken_videos_are_named(own_videos, kind, message):
    break_video(own_videos, kind)
    dataset = build(own_videos)
    with pytest.raises(BrokenVideoError, match=f'1.avi.*{message}'):
        dataset[1]
    assert dataset[0] is not None


@pytest.mark.parametrize('kind, message', FAULTS)
def test_broken_videos_are_skipped_and_counted(own_videos, kind, message):
    break_video(own_videos, kind)
    training = build(own_videos, on_broken='skip')
    for _ in range(3):
        assert not training[1]['data_samples'].filename.endswith('1.avi')
    assert training.num_broken == 1
    test = build(own_videos, on_broken='skip', test_mode=True)
    assert (len(test), test.num_broken) == (5, 1)


def test_a_folder_with_gaps(own_frames):
    (own_frames / '2' / '00003.jpg').unlink()
    (own_frames / '2' / '00007.jpg').write_bytes(b'')
    every = dict(SAMPLE, num_clips=10)
    pipeline = [every, *FRAMES_PIPELINE[2:]]
    dataset = build(own_frames, 'Rawframe', pipeline=pipeline)
    with pytest.raises(
            BrokenVideoError,
            match="frames/2': 2 of 10 frames are missing, the first: "
            '00003.jpg'):
        dataset[2]
    test = build(own_frames, 'Rawframe', on_broken='skip', test_mode=True)
    assert (len(test), test.num_broken) == (5, 1)


def test_frames_that_cannot_be_decoded(own_frames):
    for number in range(1, 11):
        (own_frames / f'2/{number:05d}.jpg').write_bytes(b'no image')
    with pytest.raises(BrokenVideoError, match="frames/2': 00001.jpg: cannot"):
        build(own_frames, 'Rawframe')[2]
    training = build(own_frames, 'Rawframe', on_broken='skip')
    assert not training[2]['data_samples'].get('frame_dir', '').endswith('/2')
    assert training.num_broken == 1
    test = build(own_frames, 'Rawframe', on_broken='skip', test_mode=True)
    assert (len(test), test.num_broken) == (5, 1)


def test_a_missing_and_a_short_folder(own_frames):
    shutil.rmtree(own_frames / '0')
    text = (own_frames / 'list.txt').read_text()
    (own_frames / 'list.txt').write_text(text.replace('1 10 1', '1 3 1'))
    dataset = build(own_frames, 'Rawframe')
    with pytest.raises(BrokenVideoError, match="/0': no such folder"):
        dataset[0]
    with pytest.raises(BrokenVideoError, match="/1': it has 3 frames"):
        dataset[1]


def test_a_fault_of_the_pipeline_stays_what_it_is(videos):
    pipeline = [*VIDEO_PIPELINE[:4], lambda results: results['nothing']]
    with pytest.raises(KeyError, match='nothing'):
        build(videos, pipeline=pipeline, on_broken='skip')[0]


def test_leaves_out_a_list(videos, tmp_path):
    path = tmp_path / 'hold_out.txt'
    path.write_text('0.avi\n3.avi\n')
    dataset = build(videos, exclude=str(path))
    assert len(dataset) == 4
    path.write_text('9.avi\n')
    with pytest.raises(InputError, match='not in the data'):
        build(videos, exclude=str(path))


@pytest.mark.parametrize('text, kind, message', [
    ('', InputError, 'no videos in'),
    ('0.avi 0\n\n1.avi zero\n', InputError, 'line 3 .* a file, a space or'),
    ('0.avi 0\n1.avi 1 2\n', InputError, "line 2 .*got '1.avi 1 2'"),
    ('0.avi 0\n1.avi\n', InputError, "line 2 .*from 0, got '1.avi'"),
    ('0.avi -2\n', InputError, "line 1 .*from 0, got '0.avi -2'"),
    ('0.avi 1.0\n', InputError, 'line 1 .* whole number'),
    ('0.avi 1' + 5000 * '0', InputError, 'line 1 .* whole number'),
])
@pytest.mark.parametrize('test_mode', [False, True])
def test_refuses_lists(own_videos, text, kind, message, test_mode):
    (own_videos / 'list.txt').write_text(text)
    with pytest.raises(kind, match=message):
        build(own_videos, test_mode=test_mode)


def test_lists_of_spreadsheets(own_videos, tmp_path):
    (own_videos / 'new').mkdir()
    (own_videos / '3.avi').rename(own_videos / 'new/a b.avi')
    (own_videos / 'list.txt'
     ).write_bytes(b'\xef\xbb\xbf0.avi 0\r\n\r\nnew\\a b.avi\t2\r\n\r\n')
    names = tmp_path / 'names.txt'
    names.write_text('\ufeffleft\r\nright\r\nup\r\n')
    dataset = build(own_videos, metainfo=dict(classes=str(names)))
    assert dataset.metainfo['classes'] == ('left', 'right', 'up')
    assert [dataset[i]['data_samples'].gt_label.item()
            for i in range(2)] == [0, 2]


def test_videos_without_labels_are_for_inference(own_videos):
    (own_videos / 'list.txt').write_text('0.avi\n1.avi\n')
    dataset = build(own_videos, test_mode=True)
    assert [dataset.get_data_info(i)['label'] for i in range(2)] == [-1, -1]
    with pytest.raises(InputError, match='line 1 .*from 0'):
        build(own_videos)


def test_several_labels(videos):
    info = build(videos, multi_class=True, num_classes=3).get_data_info(4)
    assert info['label'].tolist() == [0, 1, 0]


@pytest.mark.parametrize('text, message', [
    ('0 8', 'line 1 .* a folder, its number of frames and a label'),
    ('0 eight 0', 'line 1'),
    ('0 8 0\n1 8 0 1\n', 'line 2'),
    ('0 8 -1', 'line 1'),
    ('0 999999999999 0', 'line 1'),
])
def test_refuses_lists_of_frames(own_frames, text, message):
    (own_frames / 'list.txt').write_text(text)
    with pytest.raises(InputError, match=message):
        build(own_frames, 'Rawframe')


def test_lists_of_frames_of_spreadsheets(own_frames):
    (own_frames / '1').rename(own_frames / 'a b')
    (own_frames /
     'list.txt').write_bytes(b'\xef\xbb\xbf0\t8\t0\r\n\r\na b\t8\t1\r\n')
    dataset = build(own_frames, 'Rawframe')
    assert dataset[1]['data_samples'].gt_label.item() == 1


def test_refuses_a_missing_list_and_a_wrong_option(videos):
    with pytest.raises(FileNotFoundError, match='no list of videos .*none'):
        build(videos, ann_file='none.txt')
    with pytest.raises(ValueError, match="'raise' or 'skip', got 'ignore'"):
        build(videos, on_broken='ignore')
