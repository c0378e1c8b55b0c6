# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Starting the real service on loopback, and asking it."""
import contextlib
import http.client
import io
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
JPEG = {'Content-Type': 'image/jpeg'}


def free_port():
    """A port that nobody listens at."""
    with socket.create_server(('127.0.0.1', 0)) as server:
        return server.getsockname()[1]


def command(*args):
    """The command line of the service."""
    return [sys.executable, '-m', 'mmdynperceiver.serve', *map(str, args)]


def environment(**more):
    """That of its process."""
    path = os.pathsep.join(
        filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    return dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS='1', **more)


@contextlib.contextmanager
def serving(*args, seconds=120, **more):
    """Run the service in a process; gives its port and process."""
    port = free_port()
    process = subprocess.Popen(
        command(*args, '--port', port),
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True)
    lines = queue.Queue()
    threading.Thread(
        target=lambda: [lines.put(line) for line in process.stdout],
        daemon=True).start()
    try:
        seen, end = [], time.monotonic() + seconds
        while not seen or not seen[-1].startswith('serving '):
            assert process.poll() is None, seen
            with contextlib.suppress(queue.Empty):
                seen.append(lines.get(timeout=0.5))
            assert time.monotonic() < end, seen
        yield port, process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def ask(port, path='/v1/classify', body=None, headers=JPEG, seconds=60):
    """The status of a request, and its answer."""
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=seconds)
    try:
        connection.request('GET' if body is None else 'POST', path, body,
                           {} if body is None else headers)
        response = connection.getresponse()
        content = response.read()
        kind = response.getheader('Content-Type', '')
        return response.status, json.loads(
            content) if 'json' in kind else content
    finally:
        connection.close()


def form(contents):
    """Body and headers of a form with files."""
    parts = b''.join(b'--limit\r\nContent-Disposition: form-data; name="i"; '
                     b'filename="%d.png"\r\n\r\n%s\r\n' % (number, content)
                     for number, content in enumerate(contents))
    return parts + b'--limit--\r\n', {
        'Content-Type': 'multipart/form-data; boundary=limit'
    }


def encoded(pixels, kind='PNG'):
    """The bytes of an image file."""
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, kind)
    return file.getvalue()


def curve_points(best):
    """A curve of which these thresholds are the best point."""
    return [
        dict(
            thresholds=list(thresholds),
            criterion='max_prob',
            expected=dict(accuracy=accuracy, macs=macs, shares=shares))
        for thresholds, accuracy, macs, shares in (((0, 0, 0), 0.5, 1e6,
                                                    [1, 0, 0, 0]),
                                                   (best, 0.9, 2e6,
                                                    [.5, .25, .125, .125]))
    ]
