# Copyright (c) mmdynperceiver contributors. All rights reserved.
import os
import time

import pytest
import torch

from mmdynperceiver.io import fingerprints
from mmdynperceiver.io.fingerprints import (data_fingerprint,
                                            settings_fingerprint,
                                            weights_fingerprint)


def weights():
    return dict(a=torch.arange(6.).reshape(2, 3), b=torch.tensor(3))


@pytest.mark.parametrize('change', [
    lambda w: w['a'].add_(1e-6),
    lambda w: w.update(a=w['a'].reshape(3, 2)),
    lambda w: w.update(a=w['a'].double()),
    lambda w: w.update(c=w.pop('b')),
])
def test_weights(change):
    changed = weights()
    assert weights_fingerprint(changed) == weights_fingerprint(weights())
    change(changed)
    assert weights_fingerprint(changed) != weights_fingerprint(weights())


def test_thresholds_are_no_weights():
    with_point = dict(weights())
    with_point['policy._extra_state'] = torch.tensor([0.5])
    assert weights_fingerprint(with_point) == weights_fingerprint(weights())


def test_views_count_as_their_values():
    one = dict(a=torch.arange(6.).reshape(2, 3).t())
    assert weights_fingerprint(one) == weights_fingerprint(
        dict(a=one['a'].contiguous()))


@pytest.fixture
def files(make_files):
    return lambda folder: make_files({'x/a.png': 'a', 'b.png': 'b'}, folder)


def fingerprint(root, labels=(0, 1), names=('x/a.png', 'b.png'), memory=None):
    samples = zip([str(root / name) for name in names], labels)
    return data_fingerprint(str(root), samples, memory)


def test_data_may_move(files, tmp_path):
    assert fingerprint(files('here')) == fingerprint(files('there'))
    root, memory = files('elsewhere'), tmp_path / 'memory'
    assert fingerprint(root, memory=memory) == fingerprint(root)


def test_data_that_differ(files):
    root = files('here')
    before = fingerprint(root)
    assert fingerprint(root, labels=(1, 0)) != before
    assert fingerprint(root, names=('b.png', 'x/a.png')) != before
    assert fingerprint(root, labels=(0, )) != before
    (root / 'b.png').write_text('bb')
    assert fingerprint(root) != before
    one, other = ([(str(root / 'b.png'), 0, text)] for text in ('4', '5'))
    assert data_fingerprint('', one) != data_fingerprint('', other)


def change_back(path, content):
    """Change a file, but neither its size nor its time."""
    times = os.stat(path)
    assert times.st_size == len(content)
    path.write_text(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def swap(path, content):
    """Put another file in its place."""
    path.with_name('new').write_text(content)
    os.utime(path.with_name('new'), ns=(path.stat().st_mtime_ns, ) * 2)
    os.replace(path.with_name('new'), path)


@pytest.mark.parametrize('old', [True, False])
@pytest.mark.parametrize('change', [change_back, swap])
def test_other_content_of_the_same_size(files, tmp_path, monkeypatch, change,
                                        old):
    """Whether a file is old enough to be remembered or not."""
    monkeypatch.setattr(fingerprints, 'RACY', -10**18 if old else 10**18)
    root, memory = files('here'), tmp_path / 'memory'
    before = fingerprint(root, memory=memory)
    time.sleep(0.05)  # more than a tick of the clock of files
    change(root / 'b.png', 'c')
    assert fingerprint(root, memory=memory) != before
    change(root / 'b.png', 'b')
    assert fingerprint(root, memory=memory) == before


def test_files_are_read_once(files, tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprints, 'RACY', -10**18)
    root, memory = files('here'), tmp_path / 'memory'
    read = []
    real = fingerprints._digest_of
    monkeypatch.setattr(fingerprints, '_digest_of', lambda path:
                        (read.append(path), real(path))[1])
    first = fingerprint(root, memory=memory)
    assert len(read) == 2
    assert fingerprint(root, memory=memory) == first and len(read) == 2
    next(memory.iterdir()).write_text('{"broken')
    assert fingerprint(root, memory=memory) == first and len(read) == 4


def test_frames_of_a_folder(make_files):
    frames = {f'clip/{k}.jpg': str(k) for k in range(3)}
    root = make_files(frames, 'here')
    before = fingerprint(root, names=['clip'])
    assert fingerprint(make_files(frames, 'there'), names=['clip']) == before
    (root / 'clip/1.jpg').write_text('7')
    changed = fingerprint(root, names=['clip'])
    (root / 'clip/2.jpg').unlink()
    assert len({before, changed, fingerprint(root, names=['clip'])}) == 3


def test_names_that_are_not_utf8(tmp_path):
    name = os.fsdecode(b'caf\xe9.png')
    (tmp_path / name).write_text('a')
    assert fingerprint(tmp_path, names=[name])


def test_settings():
    one = [dict(type='Resize', scale=256), dict(type='Crop')]
    same = [dict(scale=256, type='Resize'), dict(type='Crop')]
    assert settings_fingerprint(one) == settings_fingerprint(same)
    assert settings_fingerprint(one) != settings_fingerprint(one[::-1])
