# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The graphs of all segments as branches of one, or in a row as one.

ONNX Runtime gives each session a pool of threads, and sessions can share one
only if all of the process do. Segments never run together, so that one graph
with a branch for each, ``if segment 0 ... else if segment 1 ...``, does with
one pool. What a branch computes stays as it was.

Where nobody can leave, one graph with all segments in a row takes less time:
the runtime hands on maps in the layout that it computes in.
"""
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Set

import numpy as np

from .graphs import FLOAT, Graph, one_of
from .protobuf import BYTES, Bytes, Field, enclose, encode, fields

__all__ = ['Merged', 'chain_graphs', 'merge_graphs']

BOOL = 9
# ONNX's number for attributes that are tensors, and graphs.
TENSOR, GRAPH = 4, 5
# What a segment's input is called, what says that a segment is to run, and
# the outputs of all segments at one place.
INPUT, SWITCH, OUTPUT = 'merged/input/{}', 'merged/run/{}', 'merged/output/{}'


class Merged(NamedTuple):
    """One graph for all segments."""

    content: bytes
    # What each input gets that the segment to run does not read.
    idle: Dict[str, np.ndarray]
    num_segments: int

    def feeds(self, index: int, feeds: Mapping[str, Any]) -> Dict[str, Any]:
        """What to give to the graph for one segment to run on its inputs."""
        given = dict(self.idle)
        given.update(
            (INPUT.format(name), value) for name, value in feeds.items())
        if index < self.num_segments - 1:
            given[SWITCH.format(index)] = np.array(True)
        return given

    def outputs(self, number: int) -> List[str]:
        """The graph's names of so many outputs of a segment."""
        return list(map(OUTPUT.format, range(number)))


def merge_graphs(graphs: Sequence[Graph]) -> Merged:
    """Make one graph of several, which must be of the same operator sets."""
    width = max(len(graph.outputs) for graph in graphs)
    # An empty batch of each input.
    idle = {
        INPUT.format(name):
        np.zeros((0, *(size or 0 for size in shape[1:])), np.float32)
        for graph in graphs
        for name, shape in graph.inputs.items()
    }
    merged = _branch(graphs[-1], width)
    for index in reversed(range(len(graphs) - 1)):
        idle[SWITCH.format(index)] = np.array(False)
        merged = _choose(index, _branch(graphs[index], width), merged, width)
    merged += [
        encode(11, _describe(name, value)) for name, value in idle.items()
    ]
    return Merged(_model(graphs, merged), idle, len(graphs))


def chain_graphs(graphs: Sequence[Graph]) -> bytes:
    """Make one graph of several, each of which reads what those before made;
    it returns the first output of each.

    ValueError if they are of different operator sets, or have graphs in them.
    """
    chained: List[Bytes] = [encode(2, 'chained')]
    made: Set[str] = set()
    for index, graph in enumerate(graphs):
        kept = {name.encode() for name in (*graph.inputs, *graph.outputs)}
        prefix = f'chained/{index}/'.encode()
        for field in fields(one_of(list(fields(graph.content)), 7)):
            if field.number == 1:
                # Inputs, outputs and the name of a node.
                chained += enclose(1, _prefixed(field, (1, 2, 3), prefix,
                                                kept))
            elif field.number == 5:
                chained += enclose(5, _prefixed(field, (8, ), prefix, kept))
            elif field.number == 15:
                raise ValueError('a graph has sparse weights')
        for name, shape in graph.inputs.items():
            if name not in made:
                sizes = [0, *(size or 0 for size in shape[1:])]
                chained.append(
                    encode(11, _describe(name, np.empty(sizes, np.float32))))
        made.update((*graph.inputs, *graph.outputs))
        chained.append(encode(12, _output_of(graph.outputs[0])))
    return _model(graphs, chained)


def _prefixed(field: Field, numbers: Sequence[int], prefix: bytes,
              kept: Set[bytes]) -> List[Bytes]:
    """The content of a node or weight; names in these fields that are not
    kept get a prefix."""
    content: List[Bytes] = []
    for part in fields(field.value):
        if part.number in numbers and part.wire == BYTES:
            name = bytes(part.value)  # type: ignore[arg-type]
            new = name if not name or name in kept else prefix + name
            content.append(encode(part.number, new))
            continue
        if field.number == 1 and part.number == 5 and any(
                inner.number in (6, 11) for inner in fields(part.value)):
            raise ValueError('a graph has a graph in it')
        content.append(part.raw)
    return content


def _model(graphs: Sequence[Graph], content: List[Bytes]) -> bytes:
    """The file of a graph that is made of these."""
    opsets: Dict[str, int] = {}
    for graph in graphs:
        for name, version in graph.opsets.items():
            if opsets.setdefault(name, version) != version:
                raise ValueError('the graphs are of different operator sets')
    model = [encode(1, max(map(_ir_version, graphs))), *enclose(7, content)]
    model += [
        encode(8,
               encode(1, name) + encode(2, version))
        for name, version in opsets.items()
    ]
    return b''.join(model)


def _describe(name: str, value: np.ndarray) -> bytes:
    """An input: its name and type; any batch, and any size where it is 0."""
    sizes = [encode(2, 'batch')] if value.ndim else []
    sizes += [encode(1, size) if size else b'' for size in value.shape[1:]]
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
            node.append(encode(1, INPUT.format(bytes(part.value).decode())))
        elif part.number == 5:
            attribute: List[Bytes] = []
            for inner in fields(part.value):
                if inner.number in (6, 11) and inner.wire == BYTES:
                    # A graph in the attribute.
                    attribute += enclose(inner.number, [
                        piece for each in fields(inner.value)
                        for piece in _renamed(each, names)
                    ])
                else:
                    attribute.append(inner.raw)
            node += enclose(5, attribute)
        else:
            node.append(part.raw)
    return enclose(1, node)


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
        OUTPUT.format(place) if index == 0 else f'merged/{index}/{place}'
        for place in range(width)
    ]
    node: List[Bytes] = [encode(1, SWITCH.format(index))]
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
