# Copyright (c) mmdynperceiver contributors. All rights reserved.
import os

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from mmdynperceiver.deploy.graphs import read_graph, read_regular
from mmdynperceiver.deploy.manifest import Manifest
from mmdynperceiver.deploy.merging import chain_graphs, merge_graphs
from mmdynperceiver.deploy.protobuf import encode


def external(name='w'):
    """A tensor that lies at an address, as ONNX Runtime marks it."""
    tensor = TensorProto(
        name=name,
        data_type=TensorProto.FLOAT,
        dims=[2],
        data_location=TensorProto.EXTERNAL)
    for key, value in (('location', '*/_ORT_MEM_ADDR_/*'), ('offset', '4096'),
                       ('length', '8')):
        tensor.external_data.add(key=key, value=value)
    return tensor


def node(op_type='Relu', outputs=('logits', ), **attributes):
    return helper.make_node(op_type, ['images'], outputs, **attributes)


def model(nodes=None, **fields):
    """Images (B, 2) -> logits (B, 2)."""
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ['batch', 2])
        for name in ('images', 'logits')
    ]
    graph = helper.make_graph(nodes or [node()], 'g', values[:1], values[1:],
                              **fields)
    return helper.make_model(
        graph, ir_version=9, opset_imports=[helper.make_opsetid('', 20)])


def inner(**fields):
    """A graph in a node."""
    return helper.make_graph([node()], 'inner', [], [], **fields)


def sparse(values=None, indices=None):
    return onnx.SparseTensorProto(
        values=values or numpy_helper.from_array(np.ones(1, np.float32), 'v'),
        indices=indices or numpy_helper.from_array(np.ones(1, np.int64)),
        dims=[2])


def with_field(name, *entries):
    """A model with one more field."""
    made = model()
    getattr(made, name).extend(entries)
    return made


def with_sparse(tensor):
    return model(sparse_initializer=[tensor])


HIDDEN = dict(
    initializer=lambda: model(initializer=[external()]),
    attribute=lambda: model([node('Constant', value=external())]),
    attributes=lambda: model([node('Other', values=[external()] * 2)]),
    subgraph=lambda: model(
        [node('If', then_branch=inner(initializer=[external()]))]),
    subgraphs=lambda: model(
        [node('Other', graphs=[inner(initializer=[external()])])]),
    deeper=lambda: model([
        node(
            'If',
            then_branch=helper.make_graph([
                node(
                    'Loop',
                    body=helper.make_graph(
                        [node('Constant', value=external())], 'b', [], []))
            ], 'a', [], []))
    ]),
    sparse_initializer=lambda: with_sparse(sparse(external())),
    sparse_indices=lambda: with_sparse(sparse(indices=external())),
    sparse_attribute=lambda: model(
        [node('Constant', sparse_value=sparse(external()))]),
    function=lambda: with_field(
        'functions',
        helper.make_function('d', 'f', [], ['y'], [
            helper.make_node('Constant', [], ['y'], value=external())
        ], [])),
    function_default=lambda: with_field(
        'functions',
        helper.make_function(
            'd',
            'f', [], [], [], [],
            attribute_protos=[helper.make_attribute('a', external())])),
    training=lambda: with_field(
        'training_info',
        onnx.TrainingInfoProto(initialization=inner(initializer=[external()]))
    ),
    location_alone=lambda: model(initializer=[
        TensorProto(
            name='w',
            data_type=1,
            dims=[2],
            raw_data=bytes(8),
            data_location=TensorProto.EXTERNAL)
    ]))


@pytest.mark.parametrize('place', HIDDEN)
def test_external_data_is_refused_wherever_it_is(place):
    content = HIDDEN[place]().SerializeToString()
    with pytest.raises(ValueError, match='g.onnx is no .*external data'):
        read_graph('g.onnx', content)


def test_external_data_in_a_graph_that_is_there_twice():
    """A reader joins the two."""
    content = model().SerializeToString() + model(
        initializer=[external()]).SerializeToString()
    with pytest.raises(ValueError, match='external data'):
        read_graph('g.onnx', content)


@pytest.mark.parametrize('content, message', [
    (b'', '0 fields of the number 7'),
    (b'no graph', 'no kind 6'),
    (b'<?xml version="1.0"?>', 'is no graph'),
    (b'\x3a\xff\xff\xff\xff\x7f', 'cut off'),
    (b'\x3a' + b'\xff' * 20, 'cut off'),
    (model().SerializeToString() * 2, '2 fields of the number 7'),
    (model().SerializeToString()[:-3], 'is no graph'),
    (b'\x3a\x02\x28\x01', 'a number is where a message must be'),
    (b'\x08\x0a\x3a\x00', None),
])
def test_other_files_are_refused(content, message):
    if message is None:  # no inputs, no outputs: the manifest has some
        assert read_graph('g.onnx', content).outputs == ()
        return
    with pytest.raises(ValueError, match=message):
        read_graph('g.onnx', content)


def test_deep_graphs_are_refused():
    content = b''
    for _ in range(2000):  # a graph in an attribute of a node of a graph
        content = encode(1, encode(5, encode(6, content)))
    with pytest.raises(ValueError, match='nested too deeply'):
        read_graph('g.onnx', encode(7, content))


def test_what_is_in_a_graph(exported):
    manifest = Manifest.load(exported.folder)
    for segment, graph in zip(manifest.segments,
                              manifest.read_graphs(exported.folder)):
        loaded = onnx.load_from_string(graph.content)
        assert list(graph.inputs) == [v.name for v in loaded.graph.input]
        assert list(graph.outputs) == segment.outputs
        assert graph.opsets == {'': 23}
        for name, shape in graph.inputs.items():
            assert shape == [None, *manifest.tensors[name][1:]]
        # Neither images nor logits, which others read too.
        assert graph.handed_on == {
            name
            for name in (*segment.inputs, *segment.outputs) if name[0] in 'xz'
        }


def test_links_pipes_and_folders_are_not_read(tmp_path):
    file = tmp_path / 'file'
    file.write_bytes(b'content')
    assert read_regular(file) == b'content'
    with pytest.raises(ValueError, match='has 7 bytes; 6 are the most'):
        read_regular(file, 6)
    (tmp_path / 'link').symlink_to(file)
    (tmp_path / 'dead').symlink_to('nowhere')
    os.mkfifo(tmp_path / 'pipe')
    for name in ('link', 'dead'):
        with pytest.raises(ValueError, match=f"{name}' is a link"):
            read_regular(tmp_path / name)
    for path in (tmp_path / 'pipe', '/dev/zero'):
        with pytest.raises(ValueError, match='must be a regular file'):
            read_regular(path)
    with pytest.raises(OSError):
        read_regular(tmp_path)


def test_merged_graphs_compute_what_each_does(exported, batch):
    manifest = Manifest.load(exported.folder)
    graphs = manifest.read_graphs(exported.folder)
    merged = merge_graphs(graphs)
    together = onnxruntime.InferenceSession(merged.content)
    tensors = dict(images=batch[:3])
    for index, graph in enumerate(graphs):
        feeds = {name: tensors[name] for name in graph.inputs}
        expected = onnxruntime.InferenceSession(graph.content).run(
            list(graph.outputs), feeds)
        got = together.run(
            merged.outputs(len(graph.outputs)), merged.feeds(index, feeds))
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
        tensors.update(zip(graph.outputs, expected))


def test_merged_graphs_rename_inputs_in_inner_graphs():

    def branch(op_type):
        return helper.make_graph(
            [helper.make_node(op_type, ['images'], ['y'])], op_type, [],
            [helper.make_tensor_value_info('y', TensorProto.FLOAT, None)])

    yes = numpy_helper.from_array(np.array(True), 'yes')
    made = model([
        helper.make_node(
            'If', ['yes'], ['logits'],
            then_branch=branch('Relu'),
            else_branch=branch('Neg'))
    ],
                 initializer=[yes])
    graphs = [
        read_graph('a.onnx', made.SerializeToString()),
        read_graph('b.onnx',
                   model([node('Neg')]).SerializeToString())
    ]
    merged = merge_graphs(graphs)
    session = onnxruntime.InferenceSession(merged.content)
    images = np.array([[-1, 2]], np.float32)
    for index, expected in enumerate(([[0, 2]], [[1, -2]])):
        logits, = session.run(
            merged.outputs(1), merged.feeds(index, dict(images=images)))
        np.testing.assert_array_equal(logits, expected)


def test_graphs_with_graphs_in_them_are_not_chained():
    inner = helper.make_graph(
        [helper.make_node('Neg', ['images'], ['y'])], 'inner', [],
        [helper.make_tensor_value_info('y', TensorProto.FLOAT, None)])
    made = model([
        helper.make_node(
            'If', ['yes'], ['logits'], then_branch=inner, else_branch=inner)
    ],
                 initializer=[numpy_helper.from_array(np.array(True), 'yes')])
    graph = read_graph('a.onnx', made.SerializeToString())
    with pytest.raises(ValueError, match='has a graph in it'):
        chain_graphs([graph, graph])


@pytest.mark.parametrize('merge_graphs', [merge_graphs, chain_graphs])
def test_graphs_of_other_operator_sets_are_not_merged(merge_graphs):
    graphs = [read_graph('a.onnx', model().SerializeToString())]
    other = graphs[0]._replace(opsets={'': 21})
    with pytest.raises(ValueError, match='different operator sets'):
        merge_graphs([*graphs, other])
