# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Released weights are found by their names, in a folder or by HTTP."""
import shutil
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from tiny import load_tool

from mmdynperceiver.core import create_model
from mmdynperceiver.hub import from_pretrained
from mmdynperceiver.io.checksums import file_sha256
from mmdynperceiver.io.released import VARIABLE


@pytest.fixture
def release(classifier, tmp_path, monkeypatch):
    """The folder of a release with one network."""
    folder = tmp_path / 'release'
    folder.mkdir()
    classifier.save_pretrained(tmp_path / 'ants')
    load_tool('dev/release_weights').pack(tmp_path / 'ants',
                                          folder / 'ants.zip')
    digest = file_sha256(folder / 'ants.zip')
    (folder / 'SHA256SUMS').write_text(f'{digest}  ants.zip\n')
    monkeypatch.setenv(VARIABLE, str(folder))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return folder


def same(net, other):
    own, others = net.state_dict(), other.state_dict()
    return own.keys() == others.keys() and all(
        torch.equal(own[name], others[name]) for name in own)


def test_by_name(release, classifier):
    assert same(from_pretrained('ants'), classifier)
    shutil.rmtree(release)  # it is read again, but not the file
    release.mkdir()
    with pytest.raises(OSError, match='cannot read SHA256SUMS .*release'):
        from_pretrained('ants')


def test_by_address_and_for_other_classes(release, classifier, monkeypatch):

    class Handler(SimpleHTTPRequestHandler):
        log_message = print

    handler = partial(Handler, directory=str(release))
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv(VARIABLE, f'http://127.0.0.1:{server.server_port}/')
        settings = classifier.settings
        net = create_model(
            settings.pop('arch'),
            pretrained='ants',
            **dict(settings, num_classes=7))
        server.shutdown()
    assert net.num_classes == 7
    assert same(net.trunk, classifier.trunk)


@pytest.mark.parametrize('change, message', [
    (lambda path, _: path.write_bytes(path.read_bytes()[:-9]),
     'ants.zip .* was cut short or changed'),
    (lambda path, _: path.unlink(), 'cannot read ants.zip'),
    (lambda _, sums: sums.write_text('<html>'), 'is no list of checksums'),
    (lambda _, sums: sums.write_text(sums.read_text().replace('ants', 'bees')),
     "no folder 'ants', and the release at .* has bees"),
])
def test_what_does_not_fit_is_one_line(release, change, message):
    change(release / 'ants.zip', release / 'SHA256SUMS')
    with pytest.raises((OSError, ValueError), match=message):
        from_pretrained('ants')


def test_where_the_release_is_must_be_said(release, monkeypatch):
    monkeypatch.setenv(VARIABLE, '')
    with pytest.raises(FileNotFoundError, match=f'set {VARIABLE} to'):
        from_pretrained('ants')
    monkeypatch.setenv(VARIABLE, 'ftp://somewhere')
    with pytest.raises(OSError, match='no https:// address'):
        from_pretrained('ants')


def test_other_files_are_not_unpacked(release, tmp_path):
    with zipfile.ZipFile(release / 'ants.zip', 'w') as file:
        file.writestr('ants/../../x', 'x')
    digest = file_sha256(release / 'ants.zip')
    (release / 'SHA256SUMS').write_text(f'{digest}  ants.zip\n')
    with pytest.raises(ValueError, match='is no file of a saved folder'):
        from_pretrained('ants')
    assert not list((tmp_path / 'cache').rglob('[xa]*'))
