# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The formats that networks are exported in."""
from functools import partial
from typing import Any, Callable, Dict

import torch

from ..version import __version__
from .manifest import Segment
from .onnxruntime_session import FIRST_VERSIONS, OPSET, check_opset
from .runtimes import import_runtime
from .simplify import write_onnx

__all__ = ['FORMATS', 'graph_writer', 'opset_of', 'versions_of']

# The runtime in which graphs of a format are compared with PyTorch.
FORMATS = dict(onnx='onnxruntime', litert='litert')


def graph_writer(file_format: str, opset: int) -> Callable[..., Segment]:
    """What writes a graph in a format; ValueError, if there is none."""
    if file_format == 'onnx':
        return partial(write_onnx, opset=opset)
    if file_format == 'litert':
        # Imported here: few exports need it.
        from .litert_graphs import write_litert
        return write_litert
    raise ValueError(f'file_format must be one of {", ".join(FORMATS)}, got '
                     f'{file_format!r}')


def opset_of(file_format: str, opset: int = OPSET) -> int:
    """The operator set by whose operators a format's graphs are made."""
    # LiteRT has no operator for attention, as older operator sets.
    return check_opset(opset) if file_format == 'onnx' else OPSET - 1


def versions_of(opset: int, file_format: str = 'onnx') -> Dict[str, Any]:
    """What the graphs were made with, and what they need."""
    # Not those of distributions: that of a runtime may have another name.
    if file_format == 'onnx':
        packages = ('onnx', 'onnxruntime')
        more: Any = dict(
            opset=opset, needed=dict(onnxruntime=FIRST_VERSIONS[opset]))
    else:
        packages, more = ('litert_torch', 'ai_edge_litert'), {}
    used = (torch, *map(import_runtime, packages))
    return dict(
        mmdynperceiver=__version__,
        **more,
        **{module.__name__: str(module.__version__)
           for module in used})
