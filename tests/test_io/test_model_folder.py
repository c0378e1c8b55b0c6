# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Folders of a model are whole and unchanged, or are refused in one line."""
import json
import shutil
import sys

import pytest
import torch

from mmdynperceiver.io import safetensors_file
from mmdynperceiver.io.model_folder import (find_folder, read_folder,
                                            save_folder)

pytest.importorskip('safetensors')
hub = pytest.importorskip('huggingface_hub')
WEIGHTS = {'a': torch.arange(6.).reshape(2, 3).t(), 'n': torch.tensor(3)}


@pytest.fixture
def folder(tmp_path):
    save_folder(tmp_path / 'net', dict(sizes=(1, 2)), WEIGHTS, 'a card')
    return tmp_path / 'net'


def test_round_trip(folder):
    content, weights = read_folder(folder)
    assert content['sizes'] == [1, 2]
    assert set(weights) == set(WEIGHTS)
    assert all(torch.equal(weights[name], WEIGHTS[name]) for name in WEIGHTS)
    assert (folder / 'README.md').read_text() == 'a card'
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1
    with pytest.raises(FileExistsError, match='something at'):
        save_folder(folder, {}, WEIGHTS, '')
    assert read_folder(folder)[0] == content


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def cut(path):
    path.write_bytes(path.read_bytes()[:-3])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize('damage, message', [
    (lambda f: edit(f / 'config.json', sizes=[1, 3]), 'changed after it was'),
    (lambda f: edit(f / 'config.json', format=2, mmdynperceiver='9.1'),
     r'by mmdynperceiver 9.1 in the format 2.*reads 1: update'),
    (lambda f:
     (f / 'config.json').write_text('{"a": 1}'), 'not that of a mod'),
    (lambda f: cut(f / 'config.json'), 'is not JSON'),
    (lambda f: (f / 'config.json').unlink(), 'has no config.json'),
    (lambda f: cut(f / 'model.safetensors'), 'cut short or changed.*SHA-256'),
    (lambda f: flip(f / 'model.safetensors'), 'cut short or changed'),
    (lambda f: (f / 'model.safetensors').unlink(), 'incomplete.*is missing'),
])
def test_what_is_not_whole(folder, damage, message):
    damage(folder)
    with pytest.raises((ValueError, FileNotFoundError),
                       match=message) as error:
        read_folder(folder)
    assert '\n' not in str(error.value)


def test_a_damaged_weights_file_alone(folder):
    cut(folder / 'model.safetensors')
    with pytest.raises(ValueError, match='no whole safetensors file'):
        safetensors_file.read_safetensors(folder / 'model.safetensors')


def test_repositories(folder, tmp_path, monkeypatch):

    def download(name, **options):
        asked.append((name, options['revision'], options['token']))
        return shutil.copytree(folder, tmp_path / 'cache')

    asked = []
    monkeypatch.setattr(hub, 'snapshot_download', download)
    found = find_folder('me/net', revision='v1', token='t')
    assert read_folder(found)[0]['sizes'] == [1, 2]
    assert asked == [('me/net', 'v1', 't')]
    assert find_folder(folder) == str(folder) and len(asked) == 1

    def interrupted(name, **options):
        raise ConnectionError('the peer\nhas gone')

    monkeypatch.setattr(hub, 'snapshot_download', interrupted)
    with pytest.raises(OSError, match='the peer has gone.*run it again'):
        find_folder('me/net')
    for name in ('net', 'a/b/c', './net', '../net'):
        with pytest.raises(FileNotFoundError, match='owner/repository'):
            find_folder(name)


def test_a_missing_package_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, 'safetensors.torch', None)
    with pytest.raises(ImportError, match=r'safetensors is needed.*\[hub\]'):
        read_folder(folder)
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises(ImportError, match='huggingface-hub is needed'):
        find_folder('me/net')
