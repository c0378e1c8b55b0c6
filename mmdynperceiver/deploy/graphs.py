# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Graphs as bytes: what is in them, those of ONNX without the package onnx.

A runtime trusts a graph: told that weights lie in another file, or at an
address in memory, it reads there. So a graph is looked through first, and
what was looked through is what the runtime gets.
"""
import os
import stat
from typing import (Dict, FrozenSet, Iterable, List, NamedTuple, Optional,
                    Sequence, Tuple, Union)

from .protobuf import BYTES, VARINT, Bytes, Field, fields

__all__ = [
    'FLOAT', 'Graph', 'Shape', 'one_of', 'read_graph', 'read_regular', 'texts'
]

# Number of the type float32 in ONNX.
FLOAT = 1
# Fields of ONNX's messages with a tensor somewhere below, by their numbers.
TENSORS_BELOW: Dict[str, Dict[int, str]] = {
    'model': {7: 'graph', 20: 'training graph', 25: 'function'},
    'training graph': {1: 'graph', 2: 'graph'},
    'function': {7: 'node', 11: 'attribute'},
    'graph': {1: 'node', 5: 'tensor', 15: 'sparse tensor'},
    'node': {5: 'attribute'},
    'attribute': {5: 'tensor', 6: 'graph', 10: 'tensor', 11: 'graph',
                  22: 'sparse tensor', 23: 'sparse tensor'},
    'sparse tensor': {1: 'tensor', 2: 'tensor'},
    'tensor': {},
}  # yapf: disable
# Of messages; that of a graph in a node of a graph is three.
MAX_DEPTH = 64
# No ONNX file without external data can be larger.
MAX_BYTES = 1 << 31

Shape = List[Optional[int]]


class Graph(NamedTuple):
    """The graph of one segment: name and content of its file, what is in it.

    ``inputs`` have shapes, with None for a size that is not fixed, and
    ``opsets`` versions by operator sets, of which '' is that of ONNX; a graph
    of LiteRT has none. ``handed_on`` are inputs and outputs that nobody reads
    but other segments, which a runtime may store as it likes.
    """

    name: str
    content: bytes
    inputs: Dict[str, Shape]
    outputs: Tuple[str, ...]
    opsets: Dict[str, int]
    handed_on: FrozenSet[str] = frozenset()


def read_regular(path: Union[str, os.PathLike],
                 most: int = MAX_BYTES) -> bytes:
    """Read a file, unless it is a link, a pipe, a device, a folder or larger.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no such file.
    """
    path = os.fspath(path)
    if stat.S_ISLNK(os.lstat(path).st_mode):
        raise ValueError(f'{path!r} is a link, and must be a file: copy what '
                         f'it links to')
    # A pipe would be waited for, and what is opened may be another thing
    # than what was looked at.
    flags = os.O_RDONLY | sum(
        getattr(os, name, 0)
        for name in ('O_NOFOLLOW', 'O_NONBLOCK', 'O_BINARY', 'O_CLOEXEC'))
    with open(path, 'rb', opener=lambda name, _: os.open(name, flags)) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f'{path!r} must be a regular file')
        if found.st_size > most:
            raise ValueError(f'{path!r} has {found.st_size} bytes; {most} '
                             f'are the most that it may have')
        return file.read(found.st_size)


def read_graph(name: str, content: bytes) -> Graph:
    """Look through the content of a file of this name.

    Raises:
        ValueError: If it is no graph, keeps data elsewhere, or has what no
            exported graph has.
    """
    if name.endswith('.tflite'):
        # Imported here: it makes a Graph.
        from .tflite import read_tflite
        return read_tflite(name, content)
    try:
        _refuse_external_data('model', content)
        model = list(fields(content))
        for number, what in ((20, 'a training graph'), (25, 'functions')):
            if any(field.number == number for field in model):
                raise ValueError(f'it has {what}')
        graph = list(fields(one_of(model, 7)))
        weights = {
            texts(fields(field.value), 8)[0]
            for field in graph if field.number == 5
        }
        inputs, outputs = (
            dict(map(_value, _all(graph, number))) for number in (11, 12))
        return Graph(name, content, {
            key: shape
            for key, shape in inputs.items() if key not in weights
        }, tuple(outputs), {
            '': 0,
            **dict(map(_opset, _all(model, 8)))
        })
    except (ValueError, IndexError) as error:
        raise ValueError(f'{name} is no graph of an exported network: '
                         f'{error}') from error


def _refuse_external_data(kind: str, message: Bytes, depth: int = 0) -> None:
    """Refuse tensors that lie elsewhere, at any depth."""
    if depth > MAX_DEPTH:
        raise ValueError('it is nested too deeply')
    below = TENSORS_BELOW[kind]
    for field in fields(message):
        if kind == 'tensor' and (field.number == 13 or
                                 (field.number == 14 and field.value)):
            raise ValueError('it keeps data outside of the file (external '
                             'data), which may be anywhere; export again')
        if field.number in below and field.wire == BYTES:
            _refuse_external_data(below[field.number], field.value, depth + 1)


def _all(message: Iterable[Field], number: int) -> List[memoryview]:
    """The content of all fields of a number that have some."""
    return [
        field.value for field in message
        if field.number == number and isinstance(field.value, memoryview)
    ]


def one_of(message: Sequence[Field], number: int) -> memoryview:
    """The content of a field that must be there once."""
    found = [field.value for field in message if field.number == number]
    if len(found) != 1 or isinstance(found[0], int):
        raise ValueError(f'{len(found)} fields of the number {number}')
    return found[0]


def texts(message: Iterable[Field], number: int) -> List[str]:
    """The texts in the fields of a number."""
    return [bytes(value).decode() for value in _all(message, number)]


def _value(message: Bytes) -> Tuple[str, Shape]:
    """Name and shape of an input or output, which must be of float32."""
    entry = list(fields(message))
    name = texts(entry, 1)[0]
    tensor = list(fields(one_of(list(fields(one_of(entry, 2))), 1)))
    if [field.value for field in tensor if field.number == 1] != [FLOAT]:
        raise ValueError(f'{name} is not of float32')
    shape: Shape = []
    for dimension in fields(one_of(tensor, 2)):
        sizes = [
            field.value for field in fields(dimension.value)
            if field.number == 1 and field.wire == VARINT
        ]
        shape.append(sizes[0] if sizes else None)
    return name, shape


def _opset(message: Bytes) -> Tuple[str, int]:
    """Name and version of an operator set."""
    entry = list(fields(message))
    name = ''.join(texts(entry, 1))
    version = [field.value for field in entry if field.number == 2]
    return '' if name == 'ai.onnx' else name, int(version[0])
