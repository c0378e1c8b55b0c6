# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Exported networks in a benchmark."""
import importlib.util

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mmdynperceiver.benchmark import compare as benchmark
from mmdynperceiver.benchmark import deployed, modes
from mmdynperceiver.benchmark.from_files import compare_streams
from mmdynperceiver.core import DynPerceiver, ExitPolicy, run_early_exit
from mmdynperceiver.core.criteria import confidences
from mmdynperceiver.errors import InputError

if not all(map(importlib.util.find_spec, ('onnx', 'onnxruntime'))):
    pytest.skip('onnx or onnxruntime is missing', allow_module_level=True)

SHAPE = (3, 32, 32)


@pytest.fixture(scope='module')
def net():
    """A tiny network whose exits are not sure."""
    torch.manual_seed(0)
    return DynPerceiver(
        'resnet18',
        num_classes=3,
        width=0.25,
        num_latents=8,
        depth_factor=(0, 0, 1 / 9, 1 / 3)).eval()


@pytest.fixture(scope='module')
def folder(net, tmp_path_factory):
    """It, exported."""
    path = tmp_path_factory.mktemp('exported') / 'net'
    deployed.export_model(net, SHAPE, str(path))
    return str(path)


@pytest.fixture(params=['onnxruntime', 'openvino'])
def mode(request):
    pytest.importorskip(request.param)
    return request.param


@pytest.fixture
def images():
    """Eight images."""
    return torch.randn(8, *SHAPE, generator=torch.Generator().manual_seed(1))


def enter(folder, mode, *args):
    """A entry."""
    return deployed.runner_entry(
        'ours', mode, deployed.open_exported(folder, mode, 1, SHAPE), *args)


def test_is_the_network(net, folder, mode, images):
    entry = enter(folder, mode)
    with torch.no_grad():
        expected = net(images)
    for got, logits in zip(entry.all_exits(images), expected):
        torch.testing.assert_close(got, logits, atol=1e-3, rtol=0)
    assert entry.macs == list(net.macs_per_exit(SHAPE))
    assert entry.dynamic is None and entry.train_step is None
    for k, one in enumerate(entry.passes):
        out = one(images)
        assert out.exit_index.tolist() == [k] * 8
        torch.testing.assert_close(out.logits, expected[k], atol=1e-3, rtol=0)


@pytest.mark.parametrize('criterion', ['max_prob', 'patience'])
def test_leaves_where_the_policy_says(net, folder, images, criterion):
    temperature = (0.5, 1., 2., 1.)
    with torch.no_grad():
        conf = confidences(net(images), criterion, temperature)
    thresholds = [float(row.median()) + 1e-4 for row in conf[:3]]
    policy = ExitPolicy(4, thresholds, criterion, temperature)
    with torch.no_grad():
        expected = run_early_exit(*net.exit_parts(), policy, images)
    out = enter(folder, 'onnxruntime', policy).dynamic(images)
    assert len(set(out.exit_index.tolist())) > 1
    torch.testing.assert_close(out.exit_index, expected.exit_index)
    torch.testing.assert_close(
        out.confidence, expected.confidence, atol=1e-3, rtol=0)


def test_shares_are_those_of_its_own_logits(folder, mode, images):
    entry = enter(folder, mode, None, images, (0.5, 0.25, 0, 0.25))
    exits = entry.dynamic(images).exit_index
    assert exits.bincount(minlength=4).tolist() == [4, 2, 0, 2]
    row, = benchmark.compare([entry], images, 4, runs=2, warmup=0)
    assert row['dynamic']['shares'] == [0.5, 0.25, 0, 0.25]
    assert row['mode'] == mode and len(row['exits']) == 4


def test_one_graph_is_the_last_exit(net, folder, mode, images, tmp_path):
    path = str(tmp_path / 'one')
    deployed.export_one_graph(net, SHAPE, path)
    entry = deployed.graph_entry('one', mode, path, 1, 7, 3)
    with torch.no_grad():
        expected = net(images)
    everything, = entry.passes[0](images)
    torch.testing.assert_close(
        torch.from_numpy(everything),
        torch.cat(expected, 1),
        atol=1e-3,
        rtol=0)
    logits, = entry.all_exits(images)
    torch.testing.assert_close(logits, expected[-1], atol=1e-3, rtol=0)
    assert entry.macs == [7]
    found = benchmark.top1_per_exit(entry, images, expected[-1].argmax(1))
    assert found == dict(exits=[100])


def test_any_network_is_exported_as_segments_are(mode, images, tmp_path):
    """Batch norm folded, and no trace of where it was made."""
    import onnx
    torch.manual_seed(0)
    static = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, 5))
    path = tmp_path / 'static'
    deployed.export_net(static, SHAPE, str(path))
    graph = onnx.load(path / 'segment0.onnx').graph
    assert graph.name == 'segment0'
    assert 'BatchNormalization' not in {node.op_type for node in graph.node}
    assert not any(node.doc_string for node in graph.node)
    entry = deployed.graph_entry('static', mode, str(path), 1)
    logits, = entry.all_exits(images)
    with torch.no_grad():
        expected = static(images)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    assert entry.macs is None and entry.dynamic is None


def test_a_batch_is_not_copied(images):
    array = deployed._array(images[2:4])
    assert np.shares_memory(array, images.numpy())
    turned = images.contiguous(memory_format=torch.channels_last)
    assert deployed._array(turned).flags['C_CONTIGUOUS']


def test_threads_are_those_given(folder):
    runner = deployed.open_exported(folder, 'onnxruntime', 3, SHAPE)
    for session in runner.sessions:
        options = session._session.get_session_options()
        assert options.intra_op_num_threads == 3


def test_refuses_images_of_another_size(folder):
    with pytest.raises(
            InputError, match=r'\(3, 32, 32\).*\(3, 48, 32\).*--si'):
        deployed.open_exported(folder, 'onnxruntime', 1, (3, 48, 32))


def test_refuses_what_is_no_folder(tmp_path):
    with pytest.raises(InputError, match='no manifest.json'):
        deployed.open_exported(str(tmp_path), 'onnxruntime', 1, SHAPE)


@pytest.mark.parametrize('mode, missing, extra', [
    ('openvino', 'onnx', 'deploy'),
    ('openvino', 'openvino', 'deploy'),
    ('litert', 'litert_torch', 'deploy,litert'),
    ('litert', 'ai_edge_litert', 'deploy,litert'),
])
def test_a_missing_package_is_named(monkeypatch, mode, missing, extra):
    monkeypatch.setattr(modes, 'find_spec', lambda name: None
                        if name == missing else name)
    with pytest.raises(InputError) as caught:
        deployed.check_deployed_modes([mode])
    assert f'--modes {mode} needs {missing}, which' in str(caught.value)
    assert f'pip install -e ".[{extra}]"' in str(caught.value)


def test_folders_are_for_the_runtimes_of_their_format(folder):
    assert modes.fitting_modes(
        folder, ['litert', 'openvino-bf16']) == ['openvino-bf16']
    with pytest.raises(
            InputError,
            match='segment0.onnx, which --modes litert cannot run: '
            'add one of onnxruntime, openvino, openvino-bf16'):
        modes.fitting_modes(folder, ['litert'])
    assert modes.packages_of(['openvino-bf16', 'litert',
                              'openvino']) == ['ai-edge-litert', 'openvino']


def test_litert_is_the_network(net, images, tmp_path):
    pytest.importorskip('litert_torch')
    pytest.importorskip('ai_edge_litert')
    deployed.check_deployed_modes(['litert'])
    path, one = str(tmp_path / 'net'), str(tmp_path / 'one')
    deployed.export_model(net, SHAPE, path, 'litert')
    deployed.export_one_graph(net, SHAPE, one, 'litert')
    assert modes.fitting_modes(path, ['onnxruntime', 'litert']) == ['litert']
    with torch.no_grad():
        expected = net(images)
    entry = enter(path, 'litert', None, images, (0.5, 0.25, 0, 0.25))
    exits = entry.dynamic(images).exit_index
    assert exits.bincount(minlength=4).tolist() == [4, 2, 0, 2]
    whole = deployed.graph_entry('one', 'litert', one, 1, 7, 3)
    for got, logits in zip(
        (*entry.all_exits(images), *whole.all_exits(images)),
        (*expected, expected[-1])):
        torch.testing.assert_close(got, logits, atol=1e-3, rtol=0)


def test_a_processor_without_bf16_is_told(monkeypatch):
    openvino = pytest.importorskip('openvino')
    monkeypatch.setattr(openvino.Core, 'get_property', lambda *_: ['FP32'])
    deployed.check_deployed_modes(['openvino', 'onnxruntime'])
    with pytest.raises(
            InputError, match='--modes openvino-bf16: .*compute in bf16'):
        deployed.check_deployed_modes(['openvino-bf16'])


def test_images_per_second_from_files(folder, tmp_path):
    for number in range(3):
        pixels = np.full((*SHAPE[1:], 3), 80 * number, np.uint8)
        Image.fromarray(pixels).save(tmp_path / f'{number}.png')
    row, = compare_streams([f'{folder}/'], ['onnxruntime'], [str(tmp_path)],
                           2,
                           rounds=1)
    assert (row['name'], row['mode']) == ('net', 'onnxruntime')
    assert (row['threads'], row['num_files']) == (2, 3)
    rates = row['images_per_s']
    assert row['of_threads'] == pytest.approx(rates['streams'] /
                                              rates['threads'])
    assert compare_streams([folder], ['onnxruntime'], [], 1) == []
    with pytest.raises(InputError, match='--threads 2'):
        compare_streams([folder], ['onnxruntime'], [str(tmp_path)], 1)
    with pytest.raises(InputError, match='nowhere.png'):
        compare_streams([folder], ['onnxruntime'], ['nowhere.png'], 2)


class TwoExits(nn.Module):
    """A network of somebody else."""

    def __init__(self):
        super().__init__()
        self.early = nn.Linear(3, 5)
        self.late = nn.Linear(3, 5)

    def forward(self, pixels):
        features = pixels.mean((2, 3))
        return self.early(features), self.late(features)


@pytest.fixture(scope='module')
def others(tmp_path_factory):
    """It and its graph."""
    from mmdynperceiver.deploy.tracing import quiet
    net = TwoExits().eval()
    path = str(tmp_path_factory.mktemp('naive') / 'naive.onnx')
    with quiet(), torch.no_grad():
        torch.onnx.export(
            net, (torch.zeros(1, *SHAPE), ),
            path,
            dynamo=False,
            opset_version=17,
            input_names=['pixels'])
    return net, path


def test_enters_graphs_of_others(others, mode, images):
    net, path = others
    entry = deployed.onnx_entry(path, mode, 1, SHAPE)
    assert (entry.name, entry.mode, entry.dynamic) == ('naive', mode, None)
    image = images[:1]
    with torch.no_grad():
        expected = net(image)
    got, = entry.all_exits(image)
    np.testing.assert_allclose(got, expected[-1], atol=1e-4)
    # All exits are computed, as the others compute them.
    assert len(entry.passes[0](image)) == 2


def test_refuses_graphs_of_other_images(others, mode, tmp_path):
    with pytest.raises(InputError, match='images of the shape .*3, 64, 32'):
        deployed.onnx_entry(others[1], mode, 1, (3, 64, 32))
    (tmp_path / 'no.onnx').write_text('no graph')
    for name in ('no.onnx', 'missing.onnx'):
        with pytest.raises(InputError, match=name):
            deployed.onnx_entry(str(tmp_path / name), mode, 1, SHAPE)
