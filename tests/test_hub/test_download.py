# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Folders from a Hub that stands on this machine."""
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from mmdynperceiver.hub import from_pretrained

COMMIT = 'c0ffee' * 6 + 'c0de'


class Handler(BaseHTTPRequestHandler):
    """As much of the Hub as a download asks for; ``server.broken`` cuts the
    weights short."""

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        files = self.server.files
        parts = self.path.partition('?')[0].strip('/').split('/')
        if parts[:4] == ['api', 'models', 'me', 'ants']:
            if 'tree' in parts:
                self.send(
                    json.dumps([
                        dict(
                            type='file',
                            path=name,
                            size=len(content),
                            oid=hashlib.sha1(content).hexdigest())
                        for name, content in files.items()
                    ]).encode())
            else:
                self.send(json.dumps(dict(id='me/ants', sha=COMMIT)).encode())
        elif parts[:3] == ['me', 'ants', 'resolve'] and parts[-1] in files:
            self.send(files[parts[-1]], parts[-1].endswith('.safetensors'))
        else:
            self.send_error(404)

    def send(self, content, weights=False):
        """Send it, or the part of it that is asked for."""
        start = 0
        if 'Range' in self.headers:
            start = int(self.headers['Range'].split('=')[1].split('-')[0])
        self.send_response(206 if start else 200)
        self.send_header('Content-Length', str(len(content) - start))
        if start:
            self.send_header(
                'Content-Range',
                f'bytes {start}-{len(content) - 1}/{len(content)}')
        self.send_header('ETag', f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header('X-Repo-Commit', COMMIT)
        self.end_headers()
        if self.command == 'GET':
            part = content[start:]
            if weights and self.server.broken:
                part = part[:len(part) // 2]
            self.wfile.write(part)


@pytest.fixture
def server(classifier, tmp_path):
    classifier.save_pretrained(tmp_path / 'ants')
    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.daemon_threads = True
    server.broken = False
    server.files = {
        path.name: path.read_bytes()
        for path in (tmp_path / 'ants').iterdir()
    }
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_an_interrupted_download_goes_on(server, classifier, tmp_path,
                                         monkeypatch):
    monkeypatch.setattr('time.sleep', lambda seconds: None)  # between tries
    options = dict(
        endpoint=f'http://127.0.0.1:{server.server_port}',
        cache_dir=tmp_path / 'cache',
        token=False)
    server.broken = True
    with pytest.raises(
            OSError,
            match="'me/ants' is no folder here, and could "
            'not be fetched.*run it again') as error:
        from_pretrained('me/ants', **options)
    assert '\n' not in str(error.value)
    server.broken = False
    net = from_pretrained('me/ants', **options)
    images = torch.randn(2, 3, 48, 48)
    for one, other in zip(net(images), classifier.eval()(images)):
        assert torch.equal(one, other)
    # From the cache, without a connection.
    offline = from_pretrained('me/ants', **options, local_files_only=True)
    assert offline.policy.thresholds == net.policy.thresholds
    with pytest.raises(OSError, match='you/ants.*could not be fetched'):
        from_pretrained('you/ants', **options)
