# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Several images at the same time, in the order in which they came."""
import copy
import json
import os
import pickle
import threading
import time

import numpy as np
import pytest

from mmdynperceiver.deploy import Runner
from mmdynperceiver.deploy.__main__ import main
from mmdynperceiver.deploy.drift import DriftMonitor
from mmdynperceiver.deploy.stream import classify_files
from mmdynperceiver.deploy.streams import AHEAD, check_streams, run_in_streams


@pytest.fixture
def thresholds(resnet, batch, spread_thresholds):
    """With them images leave at several exits."""
    return spread_thresholds(resnet.net, batch)


def check_equal(found, expected):
    assert [r.path for r in found] == [r.path for r in expected]
    assert [r.exit_index for r in found] == [r.exit_index for r in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)


@pytest.mark.parametrize('runtime, batch_size', [('onnxruntime', 1),
                                                 ('onnxruntime', 4),
                                                 ('openvino', 4)])
def test_equals_one_stream(resnet, runtime, photos, thresholds, batch_size):
    pytest.importorskip(runtime)
    plain = Runner.load(
        resnet.folder, runtime, threads=1, thresholds=thresholds)
    runner = Runner.load(
        resnet.folder, runtime, thresholds=thresholds, streams=2)
    files = 3 * sorted(map(str, photos.iterdir()))
    expected = plain(files)
    assert len({r.exit_index for r in expected}) > 1
    check_equal(runner(files, batch_size), expected)
    batches = list(classify_files(runner, files, batch_size))
    check_equal([r for b in batches for r in b.results], expected)
    assert all(b.milliseconds > 0 for b in batches)
    assert runner([]) == [] == list(classify_files(runner, []))


def test_broken_files_are_told_in_their_places(resnet, photos, tmp_path):
    runner = Runner.load(resnet.folder, streams=2)
    files = sorted(map(str, photos.iterdir()))
    for place in (0, 3):
        files.insert(place, str(tmp_path / f'{place}.png'))
        (tmp_path / f'{place}.png').write_bytes(b'broken')
    batches = list(classify_files(runner, files, 2))
    found = [[r.path for r in b.results] for b in batches]
    assert found == [files[1:2], files[2:3], files[4:6], files[6:]]
    assert [[os.path.basename(e.path) for e in b.broken]
            for b in batches] == [['0.png'], ['3.png'], [], []]
    with pytest.raises(ValueError, match='0.png'):
        runner(files)
    told = classify_files(runner, files[1:], 3, on_broken='raise')
    assert [r.path for r in next(told).results] == files[1:3]
    with pytest.raises(ValueError, match='3.png'):
        next(told)


def test_copies_have_streams_too(resnet, photos):
    runner = Runner.load(resnet.folder, streams=2)
    expected = runner(photos)
    for other in (copy.deepcopy(runner), pickle.loads(pickle.dumps(runner))):
        assert len(other.more_streams) == 1
        check_equal(other(photos), expected)


def test_a_policy_put_in_holds_in_all(resnet, photos):
    runner = Runner.load(resnet.folder, streams=2)
    runner.policy = Runner.load(resnet.folder, thresholds=(0, 0, 0)).policy
    assert {r.exit_index for r in runner(photos)} == {0}


def test_command_line(resnet, photos, tmp_path):
    found = []
    for name, given in (('a', ['--threads', '1']), ('b', ['--streams', '2'])):
        out = tmp_path / f'{name}.json'
        assert main([resnet.folder, str(photos), '--out', str(out), '--quiet',
                     *given]) == 0  # yapf: disable
        found.append(json.loads(out.read_text()))
    assert [content['streams'] for content in found] == [1, 2]
    plain, streamed = ([(r['path'], r['label'], r['exit_index'])
                        for r in content['results']] for content in found)
    assert plain == streamed


@pytest.mark.parametrize('streams, threads, message', [
    (0, None, '^streams must be at least 1, got 0'),
    (True, None, '^streams must be a whole number, got True'),
    (2, 2, 'streams=2 and threads=2: leave out one'),
])
def test_refused(resnet, streams, threads, message):
    with pytest.raises(ValueError, match=message):
        Runner.load(resnet.folder, threads=threads, streams=streams)


def test_numbers():
    assert check_streams(1, 4) == (1, 4)
    assert check_streams(np.int64(3), None) == (3, 1) == check_streams(3, 1)


def test_runs_at_the_same_time_and_gives_in_order():
    """Each waits for another one, and the first ones take longest."""
    together, used = threading.Barrier(2, timeout=10), []

    def work(item, stream):
        together.wait()
        assert stream not in used  # nobody else has it
        used.append(stream)
        time.sleep(0.02 if item < 2 else 0)
        used.remove(stream)
        return 10 * item

    assert list(run_in_streams(work, range(8),
                               'ab')) == [0, 10, 20, 30, 40, 50, 60, 70]


def test_an_error_ends_it_in_its_place():
    begun, taken = [], []

    def items():
        for item in range(100):
            taken.append(item)
            yield item

    def work(item, stream):
        begun.append(item)
        if item == 3:
            raise ValueError('three')
        return item

    results = run_in_streams(work, items(), (0, 1))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match='three'):
        next(results)
    assert len(taken) <= 3 + 2 * AHEAD and set(begun) <= set(taken)
    threads = {thread.name for thread in threading.enumerate()}
    assert not [name for name in threads if name.startswith('stream')]


def test_stops_when_nobody_wants_more():
    begun = []
    results = run_in_streams(lambda item, _: begun.append(item), range(1000),
                             (0, 1))
    next(results)
    results.close()
    assert len(begun) <= 1 + 2 * AHEAD


@pytest.mark.parametrize('streams', [1, 2])
@pytest.mark.parametrize('run', [
    lambda runner, files: runner(files),
    lambda runner, files: list(classify_files(runner, files)),
])
def test_a_monitor_sees_each_image_once(resnet, photos, run, streams):
    runner = Runner.load(resnet.folder, thresholds=(0, 0, 0), streams=streams)
    runner.monitor = DriftMonitor(.02, share=.999, seed=0)
    files = 3 * sorted(map(str, photos.iterdir()))
    run(runner, files)
    # An alarm begins the count anew.
    found = [runner.monitor.status()['differ'], *runner.monitor.alarms]
    assert sum(count['seen'] for count in found) == len(files)
