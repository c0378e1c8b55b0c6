# Copyright (c) mmdynperceiver contributors. All rights reserved.
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from PIL import Image

from mmdynperceiver.core import ExitPolicy, run_early_exit
from mmdynperceiver.core.criteria import CRITERIA
from mmdynperceiver.deploy import Policy, Runner
from mmdynperceiver.deploy.openvino_session import MAX_COMPILED, bucket


def early_exit(net, batch, *policy):
    """What PyTorch does."""
    with torch.no_grad():
        return run_early_exit(*net.exit_parts(),
                              ExitPolicy(net.policy.num_exits, *policy),
                              torch.from_numpy(batch))


def test_equals_pytorch(exported, runtime, batch, spread_thresholds):
    net, folder = exported
    runner = Runner.load(folder, runtime, threads=1)
    with torch.no_grad():
        expected = net(torch.from_numpy(batch))
    for got, logits in zip(runner.all_exits(batch), expected):
        np.testing.assert_allclose(got, logits, atol=1e-3)
    thresholds = spread_thresholds(net, batch)
    expected = early_exit(net, batch, thresholds)
    assert len(set(expected.exit_index.tolist())) > 1
    policy = Policy(net.policy.num_exits, thresholds)
    for size in (1, 3, 7):
        parts = [
            runner.predict(batch[i:i + size], policy)
            for i in range(0, 7, size)
        ]
        for name in ('exit_index', 'confidence', 'logits'):
            got = np.concatenate([getattr(part, name) for part in parts])
            np.testing.assert_allclose(
                got, getattr(expected, name), atol=1e-3, err_msg=name)


@pytest.mark.parametrize('criterion', CRITERIA)
def test_same_exits_by_every_criterion(resnet, batch, criterion,
                                       spread_thresholds):
    temperature = (0.7, 1.3, 1., 2.)
    thresholds = spread_thresholds(resnet.net, batch, criterion, temperature)
    settings = (thresholds, criterion, temperature)
    expected = early_exit(resnet.net, batch, *settings)
    got = Runner.load(resnet.folder).predict(batch, Policy(4, *settings))
    np.testing.assert_array_equal(got.exit_index, expected.exit_index)
    np.testing.assert_allclose(got.confidence, expected.confidence, atol=1e-3)


@pytest.mark.parametrize('thresholds, criterion',
                         [(None, 'max_prob'), ((1.5, 2., 2.), 'patience')])
def test_one_graph_runs_where_nobody_can_leave(exported, runtime, batch,
                                               thresholds, criterion,
                                               monkeypatch):
    net, folder = exported
    runner = Runner.load(folder, runtime, threads=1)
    last = runner.num_exits - 1
    policy = Policy(last + 1, thresholds and thresholds[:last], criterion)
    expected = early_exit(net, batch, policy.thresholds or (2., ) * last,
                          policy.criterion)
    for session in runner.sessions:
        monkeypatch.setattr(session, 'run', None)
    for size in (1, 3, 7):
        got = runner.predict(batch[:size], policy)
        assert set(got.exit_index) == {last}
        for name in ('confidence', 'logits'):
            np.testing.assert_allclose(
                getattr(got, name), getattr(expected, name)[:size], atol=1e-3)
        assert (got.milliseconds > 0).all()


def test_segments_run_where_there_is_no_one_graph(resnet, batch, monkeypatch):
    """Such as of graphs above 2 GiB together."""
    from mmdynperceiver.deploy import onnxruntime_session

    def too_large(graphs):
        raise ValueError('too large')

    monkeypatch.setattr(onnxruntime_session, 'chain_graphs', too_large)
    runner = Runner.load(resnet.folder)
    assert runner.sessions.whole is None
    np.testing.assert_array_equal(
        runner.predict(batch).logits,
        runner.all_exits(batch)[3])


def test_nobody_who_left_is_computed_on(resnet, batch, spread_thresholds):
    runner = Runner.load(
        resnet.folder, thresholds=spread_thresholds(resnet.net, batch))
    sizes = []
    for session in runner.sessions:
        inner = session.run

        def run(feeds, held, inner=inner):
            sizes.append({len(value) for value in feeds.values()})
            return inner(feeds, held)

        session.run = run
    exits = runner.predict(batch).exit_index
    expected = [int((exits >= k).sum()) for k in range(exits.max() + 1)]
    assert sizes == [{count} for count in expected]
    assert len(set(expected)) > 1


def test_time_to_exit_runs_no_further(resnet, batch):
    runner = Runner.load(resnet.folder)
    runs = []
    for index, session in enumerate(runner.sessions):
        inner = session.run
        session.run = lambda *args, i=index, f=inner: runs.append(i) or f(*args
                                                                          )
    for index in range(4):
        runs.clear()
        assert runner.time_to_exit(index, batch[:1]) > 0
        assert runs == list(range(index + 1))
    with pytest.raises(ValueError, match='one of 0 to 3'):
        runner.time_to_exit(4, batch)


def test_files_folders_and_arrays(resnet, photos):
    runner = Runner.load(resnet.folder, thresholds=(0.5, 0.5, 0.5))
    by_folder = runner(photos, batch_size=4)
    files = sorted(map(str, photos.iterdir()))
    assert [result.path for result in by_folder] == files
    by_files = runner(files)
    both = runner([photos, files[0]])
    assert [result.path for result in both] == [*files, files[0]]
    pixels = [runner.preprocessing.read(file) for file in files]
    for one, other, third in zip(by_folder, by_files, runner(pixels)):
        assert third.path is None
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        np.testing.assert_allclose(one.scores, third.scores, atol=1e-5)
        assert one.exit_index == other.exit_index == third.exit_index
        assert one.name == runner.manifest.classes[one.label]
        assert one.macs == runner.manifest.macs_per_exit[one.exit_index]
        assert one.score == one.scores.max() == one.scores[one.label]
        assert one.milliseconds > 0 < one.preparing_milliseconds
    assert runner(files[0])[0].label == by_folder[0].label
    assert runner([]) == []


@pytest.mark.parametrize('arguments, message', [
    (dict(runtime='abacus'), "onnxruntime, openvino, litert, got 'abacus'"),
    (dict(precision='fp8'), "fp32, bf16, got 'fp8'"),
    (dict(precision='bf16'), 'choose the runtime openvino'),
    (dict(threads=0), 'at least 1, got 0'),
    (dict(thresholds=(1, )), 'need 3 thresholds'),
])
def test_refuses_settings(resnet, arguments, message):
    with pytest.raises(ValueError, match=message):
        Runner.load(resnet.folder, **arguments)


@pytest.mark.parametrize('change, error, message', [
    (lambda b: b.astype(np.float64), TypeError, 'float64 .*astype'),
    (lambda b: torch.from_numpy(b), TypeError,
     r'a tensor of float32 .*\.numpy\(\)'),
    (lambda b: [Image.new('RGB', (4, 4))], TypeError,
     r'a list of 1, the first a PIL image \(RGB, 4x4\): .*preprocessing'),
    (lambda b: b[:, :, :32], ValueError, r'\(7, 3, 32, 48\)'),
    (lambda b: b[0], ValueError, r'batch\[None\]'),
    (lambda b: b.transpose(0, 2, 3, 1), ValueError, r'transpose\(0, 3, 1, 2'),
    (lambda b: b[:0], ValueError, 'at least 1'),
])
def test_refuses_batches(resnet, batch, change, error, message):
    with pytest.raises(error, match=f'a batch must.*{message}'):
        Runner.load(resnet.folder).predict(change(batch))


def test_pil_images(resnet, photos):
    runner = Runner.load(resnet.folder)
    path = str(photos / '1-RGB.png')
    with Image.open(path) as image:
        alone, = runner(image)
        listed = runner([image, path], batch_size=2)
    expected, = runner(path)
    assert (alone.path, expected.path) == (None, path)
    assert [result.path for result in listed] == [None, path]
    for result in (alone, *listed):
        np.testing.assert_allclose(result.scores, expected.scores, atol=1e-5)


@pytest.mark.parametrize('threads', [1, 2])
def test_bf16_is_close(exported, batch, threads):
    """Stage 4 has one token: OpenVINO fuses what few tokens go through."""
    openvino = pytest.importorskip('openvino')
    offered = openvino.Core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES')
    if 'BF16' not in offered:
        with pytest.raises(ValueError, match='does not compute in bf16'):
            Runner.load(exported.folder, 'openvino', precision='bf16')
        return
    exact, rounded = (
        Runner.load(exported.folder, 'openvino', threads, precision)
        for precision in ('fp32', 'bf16'))
    for size in (1, 7):
        images = batch[:size]
        pairs = list(zip(exact.all_exits(images), rounded.all_exits(images)))
        # The whole in one graph.
        pairs.append(
            (exact.predict(images).logits, rounded.predict(images).logits))
        for one, other in pairs:
            # Networks without training amplify what is rounded.
            norms = np.linalg.norm(one) * np.linalg.norm(other)
            assert (one * other).sum() > 0.8 * norms
            assert np.abs(one - other).max() > 0


def test_segments_hand_on_in_bf16(resnet, batch):
    openvino = pytest.importorskip('openvino')
    if 'BF16' not in openvino.Core().get_property('CPU',
                                                  'OPTIMIZATION_CAPABILITIES'):
        pytest.skip('this processor does not compute in bf16')
    runner = Runner.load(resnet.folder, 'openvino', precision='bf16')
    tensors = dict(images=batch)
    with ExitStack() as held:
        runner.step(0, tensors, held)
        handed_on = {k: v.dtype for k, v in tensors.items() if k[0] in 'xz'}
        assert set(handed_on.values()) == {np.dtype(np.uint16)}
        # As runtimes that compute in fp32 leave it.
        wrong = {
            k: v.astype(np.float32) if k in handed_on else v
            for k, v in tensors.items()
        }
        with pytest.raises(ValueError, match='bf16, got float32'):
            runner.step(1, wrong, held)
    # Who leaves makes room, and the others stay what they are.
    logits = runner.all_exits(batch)[0]
    sure = np.sort(np.exp(logits).max(1) / np.exp(logits).sum(1))
    policy = Policy(runner.policy.num_exits, (sure[2:4].mean(), 1., 1.))
    together = runner.predict(batch, policy)
    alone = [runner.predict(image[None], policy) for image in batch]
    found = together.exit_index.tolist()
    assert found == [int(one.exit_index[0]) for one in alone]
    assert found.count(0) == len(batch) - 3
    np.testing.assert_allclose(
        together.logits,
        np.concatenate([one.logits for one in alone]),
        atol=0.05 * np.abs(together.logits).max())


def test_any_batch_size_in_openvino(resnet, batch, monkeypatch):
    """Beyond a few sizes, one graph serves all the others."""
    pytest.importorskip('openvino')
    monkeypatch.setattr('mmdynperceiver.deploy.openvino_session.MAX_COMPILED',
                        1)
    runner = Runner.load(resnet.folder, 'openvino', threads=1)
    for size in (1, 2, 5):
        check_all_exits(runner, resnet.net, batch[:size])
    assert set(runner.sessions[0]._compiled) == {1, None}


def check_all_exits(runner, net, batch):
    """The runner's logits are PyTorch's."""
    with torch.no_grad():
        expected = net(torch.from_numpy(batch))
    for one, other in zip(runner.all_exits(batch), expected):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, atol=1e-3)


def test_openvino_pads_to_few_sizes(resnet, batch):
    pytest.importorskip('openvino')
    runner = Runner.load(resnet.folder, 'openvino', threads=1)
    images = np.concatenate([batch, batch + 1, batch - 1])
    for size in (9, 10, 17, 19):
        check_all_exits(runner, resnet.net, images[:size])
    for session in runner.sessions:
        assert set(session._compiled) == {1, 10, 20}


SIGNALS = '''
import faulthandler, gc, os, signal
import numpy as np
from mmdynperceiver.deploy import Runner
faulthandler.enable()
signal.signal(signal.SIGUSR1, lambda *_: print('handled'))
runners = [Runner.load({folder!r}, 'openvino', threads=1) for _ in range(2)]
for runner in runners:
    runner.all_exits(np.zeros((1, 3, {size}, {size}), np.float32))
del runner
while runners:
    runners.pop(0)
    gc.collect()
    os.kill(os.getpid(), signal.SIGUSR1)
'''


def test_signals_reach_their_handlers(resnet, run_python):
    """Also when runners go in the order in which they came."""
    pytest.importorskip('openvino')
    result = run_python(SIGNALS.format(folder=resnet.folder, size=48))
    assert (result.returncode, result.stdout) == (0, 'handled\n' * 2), \
        result.stderr


def test_buckets():
    sizes = [bucket(size) for size in range(1, 257)]
    assert all(size <= padded for size, padded in enumerate(sizes, 1))
    assert sizes[:16] == [
        1, 2, 3, 4, 5, 6, 7, 8, *[10] * 2, *[12] * 2, *[14] * 2, *[16] * 2
    ]
    # Never a quarter in vain, and all of them are kept.
    assert all(padded < 1.25 * size for size, padded in enumerate(sizes, 1))
    assert len(set(sizes)) <= MAX_COMPILED
    for size in (32, 64, 128, 256):
        assert bucket(size) == size
