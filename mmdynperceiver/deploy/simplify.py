# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What is done to a graph behind PyTorch's exporter."""
import os
from typing import Collection, Dict, List, Mapping, Sequence

import numpy as np
import onnx
from torch import Tensor, nn

from .manifest import Segment
from .tracing import to_onnx

__all__ = ['drop_unused_inputs', 'simplify', 'write_onnx']


def write_onnx(graph: nn.Module,
               examples: Mapping[str, Tensor],
               outputs: Sequence[str],
               folder: str,
               name: str,
               opset: int,
               spatial: Collection[str] = ()) -> Segment:
    """Write one graph, which takes any batch, to a file of a name.

    For the arguments and errors see :func:`to_onnx`.
    """
    model = to_onnx(graph.eval(), examples, outputs, opset, spatial)
    inputs = drop_unused_inputs(model)
    simplify(model, name)
    file = f'{name}.onnx'
    onnx.save(model, os.path.join(folder, file))
    return Segment(file, inputs, list(outputs))


def drop_unused_inputs(model: onnx.ModelProto) -> List[str]:
    """Remove inputs that no node reads, in place; the names of those that
    stay."""
    graph = model.graph
    read = {name for node in graph.node for name in node.input}
    kept = [entry for entry in graph.input if entry.name in read]
    del graph.input[:]
    graph.input.extend(kept)
    return [entry.name for entry in kept]


def simplify(model: onnx.ModelProto, name: str) -> None:
    """Pool as runtimes like it, keep no trace of this machine, and name the
    graph, in place."""
    graph = model.graph
    graph.name = name
    constants = {entry.name: entry for entry in graph.initializer}
    constants.update((node.output[0], node.attribute[0].t)
                     for node in graph.node if node.op_type == 'Constant')
    made = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type == 'ReduceMean' and _is_global_pool(node, constants):
            # Convolutions can hand on their own layout to this one.
            node.op_type = 'GlobalAveragePool'
            del node.input[1:]
            del node.attribute[:]
        elif node.op_type == 'Reshape':
            _keep_sizes(graph, node, made, constants)
        # Stack traces with the paths of this machine.
        node.doc_string = ''
        del node.metadata_props[:]
    for entry in (*graph.value_info, *graph.input, *graph.output,
                  *graph.initializer):
        entry.doc_string = ''
        del entry.metadata_props[:]
    _drop_unread(graph)
    del graph.metadata_props[:]
    del model.metadata_props[:]
    onnx.checker.check_model(model)


def _keep_sizes(graph: onnx.GraphProto, node: onnx.NodeProto,
                made: Mapping[str, onnx.NodeProto],
                constants: Mapping[str, onnx.TensorProto]) -> None:
    """Let a reshape keep its first sizes by zeros, as ONNX has them, where
    the exporter looks them up: the shape, its first numbers and further
    ones, joined."""
    data, shape = node.input
    joined = made.get(shape)
    if joined is None or joined.op_type != 'Concat':
        return
    kept, *others = joined.input
    cut = made.get(kept)
    if cut is None or cut.op_type != 'Slice' or \
            any(name not in constants for name in (*cut.input[1:], *others)):
        return
    looked_up = made.get(cut.input[0])
    first, last, *rest = (
        onnx.numpy_helper.to_array(constants[name]).tolist()
        for name in cut.input[1:])
    if looked_up is None or looked_up.op_type != 'Shape' or \
            looked_up.input[0] != data or first != [0] or last[0] < 1 or \
            rest not in ([], [[0]], [[0], [1]]):
        return
    sizes = [np.zeros(last[0], np.int64)]
    sizes += [
        onnx.numpy_helper.to_array(constants[name]).ravel() for name in others
    ]
    name = f'{node.output[0]}/sizes'
    graph.initializer.append(
        onnx.numpy_helper.from_array(np.concatenate(sizes), name))
    node.input[1] = name


def _drop_unread(graph: onnx.GraphProto) -> None:
    """Remove nodes and constants that nothing reads any more."""
    read = {entry.name for entry in graph.output}
    kept = []
    for node in reversed(graph.node):
        if read & set(node.output):
            read |= set(node.input)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    constants = [entry for entry in graph.initializer if entry.name in read]
    del graph.initializer[:]
    graph.initializer.extend(constants)


def _is_global_pool(node: onnx.NodeProto,
                    constants: Dict[str, onnx.TensorProto]) -> bool:
    """Whether a mean is one over height and width that keeps both."""
    keeps = {a.name: a.i for a in node.attribute}.get('keepdims', 1)
    if len(node.input) != 2 or node.input[1] not in constants or not keeps:
        return False
    axes = onnx.numpy_helper.to_array(constants[node.input[1]])
    return sorted(axes.tolist()) in ([2, 3], [-2, -1])
