# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Graphs of LiteRT as bytes: what is in them, without its package.

As those of ONNX, a graph is looked through before a runtime gets it; see
:mod:`mmdynperceiver.deploy.graphs`. Numbers of fields are those of LiteRT's
schema, version 3.
"""
import struct
from typing import Tuple

from .flatbuffers import Table, root
from .graphs import Graph, Shape

__all__ = ['read_tflite']

KIND = b'TFL3'
# Number of the type float32.
FLOAT = 0


def read_tflite(name: str, content: bytes) -> Graph:
    """Look through the content of a file of this name.

    Raises:
        ValueError: If it is no graph, keeps data elsewhere, or has what no
            exported graph has.
    """
    try:
        model = root(content, KIND)
        _refuse_foreign(model)
        graph, = model.tables(2)
        signature, = model.tables(7)
        inputs, outputs = (
            dict(_value(graph, entry) for entry in signature.tables(index))
            for index in (0, 1))
        return Graph(name, content, inputs, tuple(outputs), {})
    except (ValueError, IndexError, struct.error) as error:
        raise ValueError(f'{name} is no graph of an exported network: '
                         f'{error}') from error


def _refuse_foreign(model: Table) -> None:
    """Refuse what is not in the file, or not of LiteRT."""
    for index, what in ((2, 'graphs'), (7, 'signatures')):
        count = len(model.tables(index))
        if count != 1:
            raise ValueError(f'it has {count} {what}, and must have one')
    if model.tables(8) or model.tables(9) or any(
            buffer.number(1, 'Q') for buffer in model.tables(4)):
        raise ValueError('it keeps data outside of the file, or behind the '
                         'graph (external buffers); export again')
    custom = [kind.text(1) for kind in model.tables(1)]
    if any(custom):
        raise ValueError(f'it has the operator {max(custom)!r}, which is none '
                         f'of LiteRT')


def _value(graph: Table, entry: Table) -> Tuple[str, Shape]:
    """Name and shape of an input or output, which must be of float32."""
    name = entry.text(0)
    tensor = graph.tables(0)[entry.number(1, 'I')]
    if tensor.number(1, 'b') != FLOAT:
        raise ValueError(f'{name} is not of float32')
    shape: Shape = list(tensor.numbers(0, 'i'))
    return name, shape
