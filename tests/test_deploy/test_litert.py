# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Exports for LiteRT, and the runtime; reading its files takes neither."""
import importlib.util
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from mmdynperceiver.cli import export as command
from mmdynperceiver.deploy import Manifest, Policy, Runner
from mmdynperceiver.deploy.export import export_network
from mmdynperceiver.deploy.graphs import read_graph
from .conftest import CLASSES, PREPROCESSING, build_net

HAS_LITERT = all(
    map(importlib.util.find_spec, ('litert_torch', 'ai_edge_litert')))


class Writer:
    """Writes tables of FlatBuffers: a list of fields, by their numbers, of
    which each is a text, a list, a number of 4 bytes or None."""

    def __init__(self):
        self.builder = pytest.importorskip('flatbuffers').Builder()

    def table(self, *fields):
        made = [self._value(field) for field in fields]
        self.builder.StartObject(len(fields))
        for index, value in enumerate(made):
            if isinstance(fields[index], int):
                self.builder.PrependInt32Slot(index, value, -1)
            elif value is not None:
                self.builder.PrependUOffsetTRelativeSlot(index, value, 0)
        return [self.builder.EndObject()]

    def _value(self, field):
        if isinstance(field, str):
            return self.builder.CreateString(field)
        if not isinstance(field, list):
            return field
        # Of tables, each in a list of its own, or of numbers.
        self.builder.StartVector(4, len(field), 4)
        for entry in reversed(field):
            if isinstance(entry, list):
                self.builder.PrependUOffsetTRelative(*entry)
            else:
                self.builder.PrependInt32(entry)
        return self.builder.EndVector()

    def model(self, kind=0, operator=None, tables=1, external=None):
        """Images (1, 2) -> logits (1, 2), as bytes."""
        tensors = [
            self.table([1, 2], kind, 0, name) for name in ('in/0', 'out/0')
        ]
        graph = self.table(tensors, [0], [1], [])
        entries = [
            self.table(name, index)
            for index, name in enumerate(('images', 'logits'))
        ]
        signature = self.table(entries[:1], entries[1:], 'main', None, 0)
        buffers = [self.table(None, None, None)]
        more = None if external is None else [self.table(external)]
        place, = self.table(3, [self.table(0, operator)], [graph] * tables,
                            None, buffers, None, None, [signature], more)
        self.builder.Finish(place, file_identifier=b'TFL3')
        return bytes(self.builder.Output())


def test_what_is_in_a_graph():
    content = Writer().model()
    graph = read_graph('a.tflite', content)
    assert graph.content is content
    assert graph.inputs == dict(images=[1, 2])
    assert graph.outputs == ('logits', )


@pytest.mark.parametrize('settings, message', [
    (dict(kind=9), 'images is not of float32'),
    (dict(operator='evil'), "the operator 'evil'"),
    (dict(tables=2), '2 graphs'),
    (dict(external='weights.bin'), 'outside of the file'),
])
def test_foreign_graphs_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        read_graph('a.tflite', Writer().model(**settings))


def test_what_is_no_graph_is_refused():
    content = Writer().model()
    for size in range(0, len(content), 7):
        with pytest.raises(ValueError, match='a.tflite is no graph'):
            read_graph('a.tflite', content[:size])
    rng = np.random.default_rng(0)
    for _ in range(200):
        changed = bytearray(content)
        changed[rng.integers(8, len(content))] = rng.integers(256)
        try:
            read_graph('a.tflite', bytes(changed))
        except ValueError:
            pass


def litert_export(net, folder, **settings):
    return export_network(
        *net.exit_parts(),
        folder,
        PREPROCESSING,
        net.policy,
        CLASSES,
        file_format='litert',
        **settings)


@pytest.mark.skipif(HAS_LITERT, reason='litert-torch is there')
def test_missing_packages(resnet, tmp_path):
    with pytest.raises(ImportError, match='pip install litert-torch'):
        litert_export(build_net(), tmp_path / 'out')
    assert not (tmp_path / 'out').exists()
    with pytest.raises(ImportError, match='ai_edge_litert is not installed'):
        Runner.load(resnet.folder, runtime='litert')


def test_what_the_format_does_not_have(resnet, tmp_path, capsys):
    with pytest.raises(ValueError, match='leave out int8_images'):
        litert_export(resnet.net, tmp_path / 'out', int8_images=['a.png'])
    with pytest.raises(SystemExit):
        command.parse_args([
            'config.py', 'a.pth', 'out', '--format', 'litert',
            '--int8-calibration', 'images'
        ])
    assert 'is for --format onnx' in capsys.readouterr().err


@pytest.fixture(scope='module')
def litert(tmp_path_factory):
    """A network, its folder and manifest; making it takes a minute."""
    if not HAS_LITERT:
        pytest.skip('litert-torch is not installed')
    net = build_net()
    folder = tmp_path_factory.mktemp('litert') / 'out'
    return net, folder, litert_export(net, folder)


def test_folder_is_that_of_onnx(litert, resnet):
    _, folder, manifest = litert
    other = Manifest.load(resnet.folder)
    assert manifest.source['largest_logit_difference'] < 1e-3
    assert manifest.tensors == other.tensors
    assert [(s.file, s.inputs, s.outputs) for s in manifest.segments
            ] == [(s.file.replace('onnx', 'tflite'), s.inputs, s.outputs)
                  for s in other.segments]
    assert {path.name
            for path in folder.iterdir()
            } == {'manifest.json', *(s.file for s in manifest.segments)}


def test_images_leave_as_in_pytorch(litert, batch, spread_thresholds):
    net, folder, _ = litert
    thresholds = spread_thresholds(net, batch)
    expected = net.predict(torch.from_numpy(batch), thresholds)
    assert len(set(expected.exit_index.tolist())) > 1
    runner = Runner.load(
        folder, runtime='litert', threads=1, thresholds=thresholds)
    with ThreadPoolExecutor(3) as pool:
        outcomes = list(pool.map(runner.predict, [batch] * 6))
    for found in (*outcomes, pickle.loads(pickle.dumps(runner)).predict(batch),
                  runner.predict(batch, staged=True)):
        np.testing.assert_array_equal(found.exit_index, expected.exit_index)
        np.testing.assert_allclose(found.logits, expected.logits, atol=1e-3)
    # Nobody can leave: there is no graph of all, segments run.
    all_exits = runner.all_exits(batch)
    last = runner.predict(batch, Policy(len(all_exits), None))
    np.testing.assert_array_equal(last.logits, all_exits[-1])


def test_formats_and_runtimes_fit(litert, resnet):
    with pytest.raises(
            ValueError,
            match='segment0.tflite cannot be run by '
            'onnxruntime.*the runtime litert'):
        Runner.load(litert[1])
    with pytest.raises(ValueError, match='the runtime onnxruntime or open'):
        Runner.load(resnet.folder, runtime='litert')
    with pytest.raises(ValueError, match='choose fp32'):
        Runner.load(litert[1], runtime='litert', precision='bf16')


def test_layers_that_cannot_be_converted_are_named(litert, tmp_path):

    class Odd(torch.nn.Module):

        def forward(self, x):
            # A shape that depends on values.
            return x[x > 0][:1].reshape(1, -1)[:, :1] + x

    net = build_net()
    # The last one is converted first.
    net.exits.classifiers[-1] = torch.nn.Sequential(net.exits.classifiers[-1],
                                                    Odd())
    with pytest.raises(ValueError, match='Odd.*cannot be exported for LiteRT'):
        litert_export(net, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()
