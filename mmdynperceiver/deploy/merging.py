# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The graphs of all segments as branches of one.

ONNX Runtime gives each session a pool of threads, and sessions can share one
only if all of the process do. Segments never run together, so that one graph
with a branch for each, ``if segment 0 ... else if segment 1 ...``, does with
one pool. What a branch computes stays as it was.
"""
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence

import numpy as np

from .graphs import FLOAT, Graph, one_of
from .protobuf import BYTES, Bytes, Field, enclose, encode, fields

__all__ = ['Merged', 'merge_graphs']

BOOL = 9
# ONNX's number for attributes that are tensors, and graphs.
TENSOR, GRAPH = 4, 5


class Merged(NamedTuple):
    """One graph for all segments.

    Args:
        content (bytes): The graph.
        idle (dict[str, ndarray]): What each input gets that the segment to
            run does not read.
        count (int): Number of segments.
    """

    content: bytes
    idle: Dict[str, np.ndarray]
    count: int

    def feeds(self, index: int, feeds: Mapping[str, Any]) -> Dict[str, Any]:
        """What to give to the graph for one segment to run.

        Args:
            index (int): Number of the segment.
            feeds (Mapping): Its inputs.
        """
        given = dict(self.idle)
        given.update((_input(name), value) for name, value in feeds.items())
        if index < self.count - 1:
            given[_switch(index)] = np.array(True)
        return given

    def outputs(self, number: int) -> List[str]:
        """The graph's names of a segment's first outputs.

        Args:
            number (int): How many.
        """
        return [_output(place) for place in range(number)]


def merge_graphs(graphs: Sequence[Graph]) -> Merged:
    """Make one graph of several.

    Args:
        graphs (Sequence[Graph]): Those of the segments.

    Raises:
        ValueError: If they import different versions of an operator set.
    """
    opsets: Dict[str, int] = {}
    for graph in graphs:
        for name, version in graph.opsets.items():
            if opsets.setdefault(name, version) != version:
                raise ValueError('the graphs are of different operator sets')
    width = max(len(graph.outputs) for graph in graphs)
    shapes = {k: v for graph in graphs for k, v in graph.inputs.items()}
    idle = {_input(name): _nothing(shape) for name, shape in shapes.items()}
    merged = _branch(graphs[-1], width)
    for index in reversed(range(len(graphs) - 1)):
        idle[_switch(index)] = np.array(False)
        merged = _choose(index, _branch(graphs[index], width), merged, width)
    merged += [
        encode(11, _describe(name, value)) for name, value in idle.items()
    ]
    model = [encode(1, max(map(_ir_version, graphs))), *enclose(7, merged)]
    model += [
        encode(8,
               encode(1, name) + encode(2, version))
        for name, version in opsets.items()
    ]
    return Merged(b''.join(model), idle, len(graphs))


def _input(name: str) -> str:
    """What a segment's input is called."""
    return f'merged/input/{name}'


def _switch(index: int) -> str:
    """The input that says that a segment is to run."""
    return f'merged/run/{index}'


def _output(place: int) -> str:
    """What the outputs of all segments at one place are called."""
    return f'merged/output/{place}'


def _nothing(shape: Sequence[Any]) -> np.ndarray:
    """An empty batch."""
    return np.zeros((0, *(size or 0 for size in shape[1:])), np.float32)


def _describe(name: str, value: np.ndarray) -> bytes:
    """An input: its name and type; any batch."""
    sizes = [encode(2, 'batch')] if value.ndim else []
    sizes += [encode(1, size) for size in value.shape[1:]]
    shape = b''.join(encode(1, size) for size in sizes)
    kind = BOOL if value.dtype == bool else FLOAT
    tensor = encode(1, kind) + encode(2, shape)
    return encode(1, name) + encode(2, encode(1, tensor))


def _output_of(name: str) -> bytes:
    """An output, of any shape."""
    return encode(1, name) + encode(2, encode(1, encode(1, FLOAT)))


def _branch(graph: Graph, width: int) -> List[Bytes]:
    """The graph of a segment as a branch: no inputs, as many outputs as all.

    A branch reads its inputs from the graph around it.
    """
    content = one_of(list(fields(graph.content)), 7)
    names = [name.encode() for name in graph.inputs]
    parts = [
        part for field in fields(content) if field.number != 11
        for part in _renamed(field, names)
    ]
    for place in range(len(graph.outputs), width):
        name = f'merged/none/{place}'
        parts += [encode(1, _empty(name)), encode(12, _output_of(name))]
    return parts


def _renamed(field: Field, names: Sequence[bytes]) -> List[Bytes]:
    """A field of a graph; nodes read inputs under their new names."""
    content = bytes(field.raw) if field.number == 1 else b''
    if not any(name in content for name in names):
        return [field.raw]
    node: List[Bytes] = []
    for part in fields(field.value):
        if part.number == 1 and bytes(part.value) in names:
            node.append(encode(1, _input(bytes(part.value).decode())))
        elif part.number == 5:
            node += enclose(5, _renamed_attribute(part.value, names))
        else:
            node.append(part.raw)
    return enclose(1, node)


def _renamed_attribute(attribute: Bytes,
                       names: Sequence[bytes]) -> List[Bytes]:
    """An attribute of a node, which may be graphs."""
    parts: List[Bytes] = []
    for field in fields(attribute):
        if field.number in (6, 11) and field.wire == BYTES:
            parts += enclose(field.number, [
                part for inner in fields(field.value)
                for part in _renamed(inner, names)
            ])
        else:
            parts.append(field.raw)
    return parts


def _empty(name: str) -> bytes:
    """A node that makes an output of no elements."""
    tensor = encode(1, 0) + encode(2, FLOAT)
    value = encode(1, 'value') + encode(5, tensor) + encode(20, TENSOR)
    return encode(2, name) + encode(4, 'Constant') + encode(5, value)


def _choose(index: int, then: List[Bytes], other: List[Bytes],
            width: int) -> List[Bytes]:
    """A graph that runs one of two."""
    # Names are unique in a graph and all its branches.
    names = [
        _output(place) if index == 0 else f'merged/{index}/{place}'
        for place in range(width)
    ]
    node: List[Bytes] = [encode(1, _switch(index))]
    node += [encode(2, name) for name in names]
    node.append(encode(4, 'If'))
    for name, branch in (('then_branch', then), ('else_branch', other)):
        attribute = [encode(1, name), *enclose(6, branch), encode(20, GRAPH)]
        node += enclose(5, attribute)
    outputs = [encode(12, _output_of(name)) for name in names]
    return [*enclose(1, node), encode(2, f'merged{index}'), *outputs]


def _ir_version(graph: Graph) -> int:
    """Version of the file format."""
    return max(
        int(field.value) for field in fields(graph.content)
        if field.number == 1 and not isinstance(field.value, memoryview))
