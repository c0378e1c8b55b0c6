# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The real service on loopback, by Ray Serve and without it."""
import http.client
import json
import re
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from tiny import png_header

from mmdynperceiver.deploy import Policy, Runner
from mmdynperceiver.deploy.policy import confidence
from .clients import JPEG, ask, curve_points, encoded, form, serving

for module in ('fastapi', 'uvicorn', 'python_multipart', 'prometheus_client'):
    pytest.importorskip(
        module, reason=f'the extra "serve" is not installed ({module})')

LOOPBACK = {'127.0.0.1', '::1', '::ffff:127.0.0.1'}
OPTIONS = ('--max-body-bytes', 8_000_000, '--max-pixels', 100_000,
           '--max-body-seconds', 3)


@pytest.fixture(scope='module')
def pictures():
    """Bytes of image files."""
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 255, (24, 6, 5, 3))
    return [encoded(c.repeat(10, 0).repeat(10, 1)) for c in coarse]


@pytest.fixture(scope='module')
def runner(resnet, pictures):
    """A runner under whose thresholds the pictures leave everywhere."""
    runner = Runner.load(resnet.folder, threads=1)
    batch = runner.preprocessing.batch(pictures)
    ordered = [
        np.sort(confidence(logits)) for logits in runner.all_exits(batch)
    ]
    # Between two confidences: rounding decides nothing.
    runner.policy = Policy(4, [o[11:13].mean() for o in ordered[:3]])
    return runner


class Running(NamedTuple):
    """A service, the folder that it was started with, and its engine."""

    port: int
    process: subprocess.Popen
    folder: Path
    engine: str


@pytest.fixture(scope='module', params=['local', 'ray'])
def service(request, resnet, runner, tmp_path_factory):
    """A service whose folder has gone since it started."""
    if request.param == 'ray':
        pytest.importorskip('ray', reason='Ray is not installed')
    folder = tmp_path_factory.mktemp('served') / 'exported'
    shutil.copytree(resnet.folder, folder)
    curve = folder.with_name('curve.json')
    curve.write_text(
        json.dumps(dict(points=curve_points(runner.policy.thresholds))))
    options = (*OPTIONS, '--curve', curve, '--slo-ms', 20_000)
    with serving(folder, '--engine', request.param, *options) as started:
        shutil.rmtree(folder)
        yield Running(*started, folder, request.param)


@pytest.fixture
def port(service):
    return service.port


def check(answer, result):
    """An answer, against what the runner says."""
    assert answer['class'] == result.name
    assert answer['label'] == result.label
    assert answer['exit'] == result.exit_index
    assert answer['macs'] == result.macs
    assert abs(answer['score'] - result.score) < 1e-3
    assert abs(answer['confidence'] - result.confidence) < 1e-3
    assert answer['milliseconds'] > 0 and answer['operating_point'] == 1


def test_answers_are_those_of_the_runner(port, runner, pictures):
    expected = runner(pictures)
    assert len({result.exit_index for result in expected}) > 1
    found = [None] * len(pictures)

    def client(first):
        for k in range(first, len(pictures), 4):
            found[k] = ask(port, body=pictures[k])

    clients = [threading.Thread(target=client, args=(k, )) for k in range(4)]
    [thread.start() for thread in clients]
    [thread.join() for thread in clients]
    for (status, answer), result in zip(found, expected):
        assert status == 200
        check(answer['images'][0], result)
    status, answer = ask(port, '/v1/classify?top=2', *form(pictures[:9]))
    assert status == 200
    for number, result in enumerate(expected[:9]):
        check(answer['images'][number], result)
        assert answer['images'][number]['name'] == f'{number}.png'
        assert len(answer['images'][number]['top']) == 2


def large(size):
    """A body that is not in memory at once."""
    for _ in range(size >> 20):
        yield bytes(1 << 20)


SENT = encoded(np.random.default_rng(6).integers(0, 255, (60, 50, 3)))
JPG = encoded(np.random.default_rng(6).integers(0, 255, (60, 50, 3)), 'JPEG')
BAD = {
    'not an image':
    (lambda: (b'not an image', JPEG), 422, 'Pillow finds no image in it'),
    'truncated': (lambda: (JPG[:-500], JPEG), 422, 'truncated'),
    'bomb': (lambda: (png_header(65535, 65535), JPEG), 413,
             'more than 100,000 pixels'),
    'pixels': (lambda: (encoded(np.zeros(
        (400, 400, 3))), JPEG), 413, 'more than 100,000 pixels'),
    '100 MB': (lambda: (large(100 << 20), JPEG), 413, 'and 8,000,000 are'),
    '10,000 images':
    (lambda: form([SENT[:200]] * 10_000), 413, 'more than 32 images'),
    'one of several':
    (lambda: form([SENT, b'no', SENT]), 422, "image 1 \\('1.png'\\)"),
    'content type': (lambda: (SENT, {
        'Content-Type': 'text/plain'
    }), 415, "'text/plain'"),
    'no content type': (lambda: (SENT, {}), 415, "'none'"),
    'empty': (lambda: (b'', JPEG), 400, 'image 0 is empty'),
    'empty form': (lambda: form([]), 400, 'no files'),
    'no boundary': (lambda: (SENT, {
        'Content-Type': 'multipart/form-data'
    }), 400, 'form cannot be read'),
}


@pytest.mark.parametrize('name', BAD)
def test_bad_input_gets_a_status_and_a_message(port, name):
    make, status, message = BAD[name]
    found, answer = ask(port, '/v1/classify', *make())
    assert found == answer['error']['status'] == status
    assert re.search(message, answer['error']['message'])
    assert ask(port, body=SENT)[0] == 200


def test_a_slow_client_is_told_and_holds_nobody_up(port):
    head = (b'POST /v1/classify HTTP/1.1\r\nHost: here\r\nContent-Type: '
            b'image/png\r\nContent-Length: 1000\r\n\r\n')
    with socket.create_connection(('127.0.0.1', port), 30) as slow:
        slow.sendall(head)
        start = time.monotonic()
        for _ in range(3):
            slow.sendall(b'x')
            assert ask(port, body=SENT)[0] == 200
            time.sleep(1)
        answer = slow.recv(4096)
    assert b' 408 ' in answer.split(b'\r\n')[0]
    assert time.monotonic() - start < 20


def test_a_client_that_hangs_up_leaves_nothing_behind(port):
    body, headers = form([SENT] * 20)
    for _ in range(5):
        connection = http.client.HTTPConnection('127.0.0.1', port, timeout=30)
        connection.request('POST', '/v1/classify', body, headers)
        connection.close()
        half = http.client.HTTPConnection('127.0.0.1', port, timeout=30)
        half.putrequest('POST', '/v1/classify')
        half.putheader('Content-Type', 'image/png')
        half.putheader('Content-Length', '1000')
        half.endheaders(b'half')
        half.close()
    assert ask(port, body=SENT)[0] == 200
    end = time.monotonic() + 20
    while ask(port, '/v1/stats')[1]['under_way']:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_says_what_it_is(port, runner):
    assert ask(port, '/healthz') == (200, dict(status='ok'))
    assert ask(port, '/readyz') == (200, dict(status='ready'))
    status, model = ask(port, '/v1/model')
    assert status == 200 and model['classes'] == runner.manifest.classes
    assert model['policy']['thresholds'] == list(runner.policy.thresholds)
    assert model['operating_points']['current'] == 1
    assert model['operating_points']['points'][1]['accuracy'] == 0.9
    assert model['limits']['body_bytes'] == 8_000_000
    schema = ask(port, '/openapi.json')[1]
    assert {'/v1/classify', '/healthz', '/readyz',
            '/v1/model'} <= set(schema['paths'])
    assert 'multipart/form-data' in schema['paths']['/v1/classify']['post'][
        'requestBody']['content']
    status, answer = ask(port, '/nothing')
    assert status == answer['error']['status'] == 404
    status, answer = ask(port, '/v1/classify?top=0', SENT)
    assert status == 422 and 'top: ' in answer['error']['message']


def test_metrics_name_the_operating_point(service):
    if service.engine != 'local':
        pytest.skip("Ray's metrics are at a port of its own")
    text = ask(service.port, '/metrics')[1].decode()
    assert 'mmdynperceiver_operating_point 1.0' in text
    assert 'mmdynperceiver_waiting{segment="3"} 0.0' in text


def test_listens_to_this_machine_alone(service):
    psutil = pytest.importorskip('psutil')
    process = psutil.Process(service.process.pid)
    listening = [(each.name(), address.laddr.ip)
                 for each in [process, *process.children(recursive=True)]
                 for address in each.net_connections('inet')
                 if address.status == psutil.CONN_LISTEN]
    assert listening
    assert {ip for _, ip in listening} <= LOOPBACK, listening


def test_a_killed_replica_loses_nobody(service, resnet, runner, pictures):
    if service.engine != 'ray':
        pytest.skip('without Ray there are no replicas')
    psutil = pytest.importorskip('psutil')
    shutil.copytree(resnet.folder, service.folder)  # for the next one
    expected, statuses, done = runner(pictures), [], threading.Event()

    def client(number):
        while not done.is_set():
            status, answer = ask(service.port, body=pictures[number])
            statuses.append(status)
            if status == 200:
                check(answer['images'][0], expected[number])
            time.sleep(0.02)

    clients = [threading.Thread(target=client, args=(k, )) for k in range(3)]
    [thread.start() for thread in clients]
    time.sleep(1)
    replica, = [
        each for each in psutil.Process(service.process.pid).children(
            recursive=True) if 'Classifier' in ' '.join(each.cmdline())
    ]
    replica.kill()
    replica.wait(10)
    count, end = len(statuses), time.monotonic() + 60
    while 200 not in statuses[count:]:
        assert time.monotonic() < end, statuses[count:]
        time.sleep(0.2)
    done.set()
    [thread.join() for thread in clients]
    assert set(statuses) <= {200, 500, 503} and statuses.count(200) > 3
