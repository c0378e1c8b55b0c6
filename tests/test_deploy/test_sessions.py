# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""One runner in several threads, copies and processes."""
import copy
import multiprocessing
import pickle
import re
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mmdynperceiver.deploy import Policy, Runner
from .conftest import SIZE


@pytest.fixture(scope='module')
def batches():
    rng = np.random.default_rng(0)
    return [
        2 * rng.standard_normal((1 + i % 3, 3, SIZE, SIZE)).astype(np.float32)
        for i in range(24)
    ]


@pytest.fixture
def thresholds(resnet, batches, spread_thresholds):
    """Images leave at several exits."""
    return spread_thresholds(resnet.net, np.concatenate(batches))


def same(one, other):
    """Whether two outcomes are, but for time and rounding."""
    np.testing.assert_array_equal(one.exit_index, other.exit_index)
    np.testing.assert_allclose(one.logits, other.logits, atol=1e-4)


@pytest.mark.parametrize('threads', [1, 2])
def test_threads_get_their_own_results(resnet, runtime, batches, threads,
                                       thresholds):
    runner = Runner.load(resnet.folder, runtime, threads, 'fp32', thresholds)
    alone = [runner.predict(batch) for batch in batches]
    assert len({int(k) for out in alone for k in out.exit_index}) > 1
    with ThreadPoolExecutor(4) as pool:
        for out, expected in zip(
                pool.map(runner.predict, batches * 4), alone * 4):
            same(out, expected)
        everything = list(pool.map(runner.all_exits, batches))
    for found, batch in zip(everything, batches):
        for got, expected in zip(found, runner.all_exits(batch)):
            np.testing.assert_allclose(got, expected, atol=1e-4)


def test_sizes_are_compiled_once_however_many_ask(resnet, batches):
    pytest.importorskip('openvino')
    runner = Runner.load(resnet.folder, 'openvino', 1)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(runner.all_exits, [batches[2]] * 8))
    for session in runner.sessions:
        assert set(session._compiled) == {1, 3}
        # Each caller had one, and all have given theirs back.
        assert 1 <= len(session._compiled[3].free) <= 4


def test_results_are_the_callers(resnet, runtime, batches):
    """Later calls do not write over them, nor over what was given."""
    runner = Runner.load(resnet.folder, runtime, 1)
    given = batches[0].copy()
    first = runner.predict(given).logits
    exits = runner.all_exits(given)
    alone = runner.sessions[0].run(dict(images=given))
    copies = [array.copy() for array in (first, *exits, *alone)]
    runner.predict(batches[3])
    runner.all_exits(batches[3])
    runner.sessions[0].run(dict(images=batches[3]))
    for array, kept in zip((first, *exits, *alone), copies):
        np.testing.assert_array_equal(array, kept)
        array[:] = 0  # may be written to
    np.testing.assert_array_equal(given, batches[0])


@pytest.mark.parametrize('change', [
    lambda batch: batch[::2],
    lambda batch: np.asfortranarray(batch),
    lambda batch: batch[..., ::-1],
])
def test_batches_may_lie_anyhow(resnet, runtime, batches, change):
    runner = Runner.load(resnet.folder, runtime, 1)
    batch = change(batches[2])
    batch.flags.writeable = False
    same(runner.predict(batch), runner.predict(batch.copy()))


def test_what_lies_in_a_batch_is_read_each_time(resnet, runtime, batches):
    """Also where nobody may write to the array itself."""
    runner = Runner.load(resnet.folder, runtime, 1)
    base = batches[0].copy()
    shown = base[:]
    shown.flags.writeable = False
    for change in (0., 1., 2.):
        base += change
        expected = runner.predict(base.copy())
        same(runner.predict(base), expected)
        same(runner.predict(shown), expected)


def test_images_with_nan_are_refused(resnet, runtime, batches):
    runner = Runner.load(resnet.folder, runtime, 1)
    batch = batches[2].copy()
    batch[1] = np.nan
    with pytest.raises(ValueError, match=r'finite numbers, .* images \[1\]'):
        runner.predict(batch)
    same(runner.predict(batches[2]), runner.predict(batches[2]))


@pytest.mark.parametrize(
    'duplicate',
    [copy.deepcopy, lambda runner: pickle.loads(pickle.dumps(runner))])
def test_copies_are_runners_of_the_same_settings(resnet, runtime, batches,
                                                 thresholds, duplicate):
    runner = Runner.load(resnet.folder, runtime, 2)
    runner.policy = Policy(4, thresholds, temperature=1.5)
    expected = runner.predict(batches[2])
    other = duplicate(runner)
    same(other.predict(batches[2]), expected)
    assert (other.sessions.runtime, other.sessions.threads) == (runtime, 2)
    assert other.policy.thresholds == thresholds
    assert other.manifest == runner.manifest
    assert other.sessions[0] is not runner.sessions[0]


def test_a_pickle_is_small_and_needs_the_folder(resnet, runtime, tmp_path,
                                                monkeypatch):
    shutil.copytree(resnet.folder, tmp_path / 'copy')
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps(Runner.load('copy', runtime, 1))
    assert len(content) < 20000
    monkeypatch.chdir('/')
    pickle.loads(content)
    graph = tmp_path / 'copy' / 'segment2.onnx'
    graph.write_bytes(graph.read_bytes() + b'\0')
    with pytest.raises(ValueError, match='segment2.onnx .* was changed'):
        pickle.loads(content)
    shutil.rmtree(tmp_path / 'copy')
    with pytest.raises(FileNotFoundError, match='segment0.onnx is missing'):
        pickle.loads(content)


def test_a_spawned_process_gets_a_runner(resnet, runtime, batches, thresholds):
    runner = Runner.load(resnet.folder, runtime, 2, 'fp32', thresholds)
    with multiprocessing.get_context('spawn').Pool(1) as pool:
        found = pool.map(runner.predict, batches[:3])
    for out, batch in zip(found, batches):
        same(out, runner.predict(batch))


FORKED = '''
import multiprocessing, os, sys
import numpy as np
from mmdynperceiver.deploy import Runner
runner = Runner.load({folder!r}, {runtime!r}, threads=2)
runner.policy.thresholds = {thresholds!r}
batch = np.load({batch!r})
expected = runner.predict(batch)
queue = multiprocessing.get_context('fork').SimpleQueue()

def work(number):
    for _ in range(2):
        queue.put(runner.predict(batch).logits)

for round in range(2):
    children = [multiprocessing.get_context('fork').Process(
        target=work, args=(k,)) for k in range(2)]
    for child in children:
        child.start()
    for _ in range(4):
        assert np.abs(queue.get() - expected.logits).max() < 1e-4
    for child in children:
        child.join(60)
        assert child.exitcode == 0, child.exitcode
    assert np.abs(runner.predict(batch).logits - expected.logits).max() < 1e-4
pid = os.fork()
if not pid:
    del runner  # without a use: its threads are not here to be waited for
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
print('done')
'''


def test_forked_processes_open_the_folder_again(resnet, runtime, batches,
                                                thresholds, tmp_path,
                                                run_python):
    np.save(tmp_path / 'batch.npy', batches[2])
    code = FORKED.format(
        folder=resnet.folder,
        runtime=runtime,
        thresholds=thresholds,
        batch=str(tmp_path / 'batch.npy'))
    result = run_python(code, timeout=120)
    assert (result.returncode, result.stdout) == (0, 'done\n'), result.stderr


POOL = '''
import os
from mmdynperceiver.deploy import Runner
import {runtime}
count = lambda: len(os.listdir('/proc/self/task'))
before = count()
runners = [Runner.load({folder!r}, {runtime!r}, threads=12)]
one = count() - before
runners.append(Runner.load({folder!r}, {runtime!r}, threads=12))
print(one, count() - before - one)
'''


def test_segments_share_one_pool(resnet, runtime, run_python):
    result = run_python(POOL.format(folder=resnet.folder, runtime=runtime))
    assert result.returncode == 0, result.stderr
    if runtime == 'onnxruntime':
        # The caller is one of the twelve.
        assert result.stdout.split() == ['11', '11']
    else:
        assert all(int(number) <= 12 for number in result.stdout.split())


GLOBAL = '''
import numpy as np, onnxruntime
from mmdynperceiver.deploy import Runner
onnxruntime.set_global_thread_pool_sizes(2, 1)
batch = np.zeros((1, 3, {size}, {size}), np.float32)
print(Runner.load({folder!r}, threads=3).predict(batch).exit_index)
'''
OTHERS = '''
import onnxruntime
from mmdynperceiver.deploy import Runner
runner = Runner.load({folder!r}, threads=3)
onnxruntime.InferenceSession({folder!r} + '/segment0.onnx')
'''


@pytest.mark.parametrize('code, printed', [(GLOBAL, '[3]\n'), (OTHERS, '')])
def test_a_pool_of_the_process_is_taken_and_other_sessions_left(
        resnet, run_python, code, printed):
    """With such a pool the runtime allows no other."""
    result = run_python(code.format(folder=resnet.folder, size=SIZE))
    assert (result.returncode, result.stdout) == (0, printed), result.stderr
    assert printed or not result.stderr


def test_says_if_there_is_more_than_one_pool(resnet, batches, monkeypatch):
    """Such as for networks of more than 2 GiB."""
    from mmdynperceiver.deploy import onnxruntime_session
    expected = Runner.load(resnet.folder, threads=2).predict(batches[1])

    def too_large(graphs):
        raise ValueError('too large')

    monkeypatch.setattr(onnxruntime_session, 'merge_graphs', too_large)
    with pytest.warns(UserWarning, match='too large; each segment has 2'):
        runner = Runner.load(resnet.folder, threads=2)
    same(runner.predict(batches[1]), expected)


@pytest.mark.parametrize('version, message', [
    ('1.20.1', 'from version 1.23 on, and 1.20.1 is installed: pip install -U '
     '"onnxruntime>=1.23", or export again with --opset 21'),
    ('1.22.0', 'or export again with --opset 22'),
    ('1.9.0', 'pip install -U "onnxruntime>=1.23"$'),
])
def test_an_old_runtime_is_told_which_version_is_needed(
        resnet, monkeypatch, version, message):
    import onnxruntime
    monkeypatch.setattr(onnxruntime, '__version__', version)
    with pytest.raises(ValueError, match='operator set 23') as caught:
        Runner.load(resnet.folder)
    assert re.search(re.escape(message).replace('\\$', '$'), str(caught.value))


def test_what_the_runtime_says_of_operator_sets(resnet, monkeypatch):
    """Its own version may be too new for us to know."""
    import onnxruntime

    def refuse(*args, **kwargs):
        raise onnxruntime.capi.onnxruntime_pybind11_state.Fail(
            'Opset 23 is under development\nand support is limited')

    monkeypatch.setattr(onnxruntime, 'InferenceSession', refuse)
    with pytest.raises(ValueError, match='1.23 or newer') as caught:
        Runner.load(resnet.folder, threads=2)
    assert '\n' not in str(caught.value)
    assert '--opset' in str(caught.value)
