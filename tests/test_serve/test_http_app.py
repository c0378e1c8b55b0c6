# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The application in this process, with segments that can be held up."""
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest

from mmdynperceiver.deploy import Policy
from mmdynperceiver.serve.problems import Limits
from mmdynperceiver.serve.scheduler import StagedScheduler
from mmdynperceiver.serve.segment_costs import SegmentCosts
from .clients import JPEG, ask, encoded, form, free_port

uvicorn = pytest.importorskip(
    'uvicorn', reason='the extra "serve" is not installed')
for module in ('fastapi', 'python_multipart', 'prometheus_client'):
    pytest.importorskip(module, reason='the extra "serve" is not installed')

COSTS = SegmentCosts((1, 8), ((1., 1.1), ) * 4)
IMAGE = encoded(np.zeros((60, 50, 3)))


@contextmanager
def running(app):
    """Serve an application in a thread; gives its port."""
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(app, '127.0.0.1', port, log_level='critical'))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    end = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < end
        time.sleep(0.01)
    try:
        yield port
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture
def start(spread, slow):
    """Starts an application; gives its port, service and segments."""
    from mmdynperceiver.serve.http_app import build_app
    from mmdynperceiver.serve.metrics import PrometheusMetrics
    from mmdynperceiver.serve.service import Recorder, Service

    @contextmanager
    def make(limits=Limits(), token=None, max_waiting=8, failing=()):
        runner, _ = spread()
        segments = slow(runner)
        recorder = Recorder(PrometheusMetrics(), COSTS)
        scheduler = StagedScheduler(segments, Policy(4, (2, 2, 2)), COSTS, 8,
                                    max_waiting, None, 1, recorder)
        service = Service(runner, scheduler, recorder, limits)
        with running(build_app(service, token)) as port:
            yield port, service, segments
        assert not scheduler.alive

    return make


def together(port, count):
    """Send requests at the same time; their answers."""
    found = [None] * count

    def client(k):
        found[k] = ask(port, body=IMAGE)

    threads = [
        threading.Thread(target=client, args=(k, )) for k in range(count)
    ]
    [thread.start() for thread in threads]
    return threads, found


def test_too_much_is_refused_at_once_and_the_rest_answered(start):
    with start() as (port, service, segments):
        go = threading.Event()
        segments.before = lambda index, size: go.wait(20)
        threads, found = together(port, 8)
        while service.recorder.load.pending < 8:
            time.sleep(0.005)
        begin = time.monotonic()
        status, answer = ask(port, body=IMAGE)
        assert status == 503 and time.monotonic() - begin < 5
        assert '8 images are under way, and 8 are the most' in answer['error'][
            'message']
        go.set()
        [thread.join() for thread in threads]
        assert [status for status, _ in found] == [200] * 8
        assert ask(port, body=IMAGE)[0] == 200
        text = ask(port, '/metrics')[1].decode()
    assert 'mmdynperceiver_requests_total{status="200"} 9.0' in text
    assert 'mmdynperceiver_refusals_total{status="503"} 1.0' in text
    assert 'mmdynperceiver_images_total{exit="3"} 9.0' in text
    assert 'mmdynperceiver_waiting{segment="0"} 0.0' in text
    assert 'mmdynperceiver_batch_size_count{segment="0"}' in text


def test_an_answer_that_is_late_is_a_status(start):
    with start(Limits(request_seconds=0.3)) as (port, service, segments):
        go = threading.Event()
        segments.before = lambda index, size: go.wait(20)
        status, answer = ask(port, body=IMAGE)
        assert status == 504
        assert 'within 0.3 seconds' in answer['error']['message']
        assert service.recorder.load.pending == 0
        go.set()
        while service.scheduler.under_way:
            time.sleep(0.005)
        segments.before = lambda index, size: None
        assert ask(port, body=IMAGE)[0] == 200


def test_only_who_knows_the_token_is_served(start):
    with start(token='a secret ätoken') as (port, _, _):
        for path, body in (('/v1/classify', IMAGE), ('/v1/model', None),
                           ('/v1/stats', None), ('/metrics', None)):
            status, answer = ask(port, path, body)
            assert status == answer['error']['status'] == 401
        wrong = dict(JPEG, Authorization='Bearer another')
        assert ask(port, body=IMAGE, headers=wrong)[0] == 401
        right = dict(JPEG, Authorization='Bearer a secret ätoken'.encode())
        assert ask(port, body=IMAGE, headers=right)[0] == 200
        assert ask(port, '/healthz')[0] == ask(port, '/')[0] == 200


def test_a_runtime_that_fails_is_an_error_of_the_server(start):
    with start() as (port, _, segments):

        def fail(index, size):
            raise RuntimeError('out of memory')

        segments.before = fail
        status, answer = ask(port, body=IMAGE)
        assert status == 500 and 'its log' in answer['error']['message']
        segments.before = lambda index, size: None
        status, answer = ask(port, '/v1/classify', *form([IMAGE] * 3))
        assert status == 200 and len(answer['images']) == 3
