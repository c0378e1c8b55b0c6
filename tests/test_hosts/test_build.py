# Copyright (c) mmdynperceiver contributors. All rights reserved.
import os

import pytest

from mmdynperceiver.hosts.build import LabelledData, overlap


@pytest.fixture
def clips(make_files):
    """Two folders of frames, and two files."""
    return make_files({
        'train/0/1.jpg': 'a',
        'train/1/1.jpg': 'b',
        'train/0.avi': 'c',
        'train/1.avi': 'd'
    })


def data(*paths):
    paths = list(map(str, paths))
    return LabelledData(None, '', paths, [0] * len(paths))


def test_links_are_what_they_lead_to(clips, tmp_path):
    training = data(*(clips / f'train/{n}'
                      for n in ('0', '1', '0.avi', '1.avi')))
    held_out = tmp_path / 'held_out'
    held_out.mkdir()
    os.symlink(clips / 'train/0.avi', held_out / 'file.avi')
    os.link(clips / 'train/0.avi', held_out / 'hard.avi')
    os.symlink(held_out / 'file.avi', held_out / 'twice.avi')
    os.symlink(clips / 'train/1', held_out / 'folder')
    (held_out / 'frames').mkdir()
    os.symlink(clips / 'train/1/1.jpg', held_out / 'frames/1.jpg')
    os.symlink(clips / 'train', tmp_path / 'linked')
    for path in (*held_out.iterdir(), tmp_path / 'linked/1.avi'):
        assert overlap(data(path), training) == (1, str(path)), path


def test_others_are_others(clips, tmp_path):
    (tmp_path / '0.avi').write_text('c')
    os.symlink(tmp_path / 'nowhere', tmp_path / '1.avi')
    held_out = data(tmp_path / '0.avi', tmp_path / '1.avi', 'a1b2')
    assert overlap(held_out, data(clips / 'train/0.avi')) == (0, '')
    # A digest of pixels is the same wherever it is taken.
    assert overlap(held_out, data('a1b2')) == (1, 'a1b2')
