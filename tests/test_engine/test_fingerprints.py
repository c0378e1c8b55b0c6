# Copyright (c) mmdynperceiver contributors. All rights reserved.
import pytest
import torch

from mmdynperceiver.engine.fingerprints import (data_fingerprint,
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


def fingerprint(root, labels=(0, 1), names=('x/a.png', 'b.png')):
    return data_fingerprint(
        str(root),
        [(str(root / name), label) for name, label in zip(names, labels)])


def test_data_may_move(files):
    assert fingerprint(files('here')) == fingerprint(files('there'))


def test_data_that_differ(files):
    root = files('here')
    before = fingerprint(root)
    assert fingerprint(root, labels=(1, 0)) != before
    assert fingerprint(root, names=('b.png', 'x/a.png')) != before
    assert fingerprint(root, labels=(0, )) != before
    (root / 'b.png').write_text('bb')
    assert fingerprint(root) != before


def test_settings():
    one = [dict(type='Resize', scale=256), dict(type='Crop')]
    same = [dict(scale=256, type='Resize'), dict(type='Crop')]
    assert settings_fingerprint(one) == settings_fingerprint(same)
    assert settings_fingerprint(one) != settings_fingerprint(one[::-1])
