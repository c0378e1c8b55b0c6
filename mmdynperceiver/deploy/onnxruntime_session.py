# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Graphs in ONNX Runtime, on the CPU."""
import contextlib
import re
import warnings
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from .graphs import Graph
from .merging import INPUT, Merged, chain_graphs, merge_graphs
from .runtimes import failure, import_runtime

__all__ = ['FIRST_VERSIONS', 'OPSET', 'OnnxRuntimeSession', 'check_opset']

NAME = 'ONNX Runtime'
# Operator sets of ONNX that are exported, and the first version with each.
FIRST_VERSIONS = dict(
    zip(range(18, 24), ('1.14', '1.15', '1.17', '1.18', '1.21', '1.23')))
# The first one with the operator Attention.
OPSET = 23


def check_opset(opset: int) -> int:
    """Refuse an operator set that is not exported."""
    if isinstance(opset, bool) or opset not in FIRST_VERSIONS:
        raise ValueError(f'opset must be a whole number of '
                         f'{min(FIRST_VERSIONS)} to {OPSET}, got {opset!r}')
    return int(opset)


class OnnxRuntimeSession:
    """A segment in ONNX Runtime; it can be run in several threads at once.

    The session computes the segment alone, or several that were ``merged``, of
    which it is the one at ``index``.
    """

    ending = '.onnx'

    def __init__(self,
                 session: Any,
                 graph: Graph,
                 merged: Optional[Merged] = None,
                 index: int = 0) -> None:
        self._session = session
        self._name = graph.name
        self._outputs = list(graph.outputs)
        # What the session calls the inputs, and what it gets besides.
        self._inputs = {name: name for name in graph.inputs}
        self._idle: Dict[str, Any] = {}
        if merged is not None:
            self._outputs = merged.outputs(len(graph.outputs))
            self._inputs = {name: INPUT.format(name) for name in graph.inputs}
            self._idle = merged.feeds(index, {})

    @staticmethod
    def check(precision: str) -> Any:
        """Import the runtime, which computes as the graph is."""
        if precision != 'fp32':
            raise ValueError(f'ONNX Runtime computes in the precision of the '
                             f'graph, got {precision!r}: choose the runtime '
                             f'openvino, or export to int8')
        return import_runtime('onnxruntime')

    @classmethod
    def open(cls, graphs: Sequence[Graph], threads: int,
             precision: str) -> 'List[OnnxRuntimeSession]':
        """Open graphs that never run together, with so many threads in all."""
        runtime = cls.check(precision)
        _check_opsets(runtime, graphs)
        reason = ''
        if threads > 1 and len(graphs) > 1:
            # With one thread there are no pools, and no need for this.
            try:
                merged = merge_graphs(graphs)
                session = _open(runtime, merged.content, threads)
                return [
                    cls(session, graph, merged, index)
                    for index, graph in enumerate(graphs)
                ]
            except Exception as error:
                # If a graph is at fault, it says so itself below.
                reason = str(
                    failure('one graph of all', 'loaded', NAME, error))
        sessions = []
        for graph in graphs:
            try:
                session = _open(runtime, graph.content, threads)
            except Exception as error:  # the runtime's classes have no base
                raise _load_failure(graph, error) from error
            sessions.append(cls(session, graph))
        if reason:
            warnings.warn(f'{reason}; each segment has {threads} threads of '
                          f'its own')
        return sessions

    @classmethod
    def open_whole(cls, graphs: Sequence[Graph], threads: int,
                   precision: str) -> 'Optional[OnnxRuntimeSession]':
        """Open all graphs as one that returns the logits of each; None for
        graphs that cannot be put in a row."""
        try:
            session = _open(
                cls.check(precision), chain_graphs(graphs), threads)
        except Exception:  # such as above 2 GiB; segments do as well
            return None
        outputs = tuple(graph.outputs[0] for graph in graphs)
        return cls(session, graphs[0]._replace(outputs=outputs))

    def run(self,
            feeds: Mapping[str, np.ndarray],
            held: Optional[contextlib.ExitStack] = None) -> List[np.ndarray]:
        """Compute the outputs, which are nobody else's; ``held`` is not used.
        """
        try:
            given = dict(self._idle)
            for name, value in feeds.items():
                given[self._inputs.get(name, name)] = value
            return self._session.run(self._outputs, given)
        except Exception as error:
            raise failure(self._name, 'run', NAME, error) from error


def _open(runtime: Any, content: bytes, threads: int) -> Any:
    """A session for one graph."""
    options = runtime.SessionOptions()
    # Errors are raised, too.
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    # Else the threads would still be waiting for work, busily, when others
    # need the cores.
    options.add_session_config_entry('session.force_spinning_stop', '1')
    settings: Dict[str, Any] = dict(
        providers=['CPUExecutionProvider'], enable_fallback=0)
    try:
        return runtime.InferenceSession(content, options, **settings)
    except RuntimeError as error:
        if 'use_per_session_threads' not in str(error):
            raise
        # The process has given all its sessions one pool.
        options.use_per_session_threads = False
        return runtime.InferenceSession(content, options, **settings)


def _check_opsets(runtime: Any, graphs: Sequence[Graph]) -> None:
    """Refuse graphs that this version of the runtime does not know."""
    opset = max(graph.opsets[''] for graph in graphs)
    first = FIRST_VERSIONS.get(opset, '0')
    installed = _number(runtime.__version__)
    if installed < _number(first):
        known = [k for k, v in FIRST_VERSIONS.items()
                 if _number(v) <= installed]  # yapf: disable
        other = f', or export again with --opset {max(known)}' if known else ''
        raise ValueError(
            f'the graphs are of operator set {opset}, which ONNX Runtime has '
            f'from version {first} on, and {runtime.__version__} is '
            f'installed: pip install -U "onnxruntime>={first}"{other}')


def _load_failure(graph: Graph, error: Exception) -> ValueError:
    """What to raise for a graph that the runtime does not take."""
    found = failure(graph.name, 'loaded', NAME, error)
    opset = graph.opsets['']
    if 'opset' in str(error).lower() and opset in FIRST_VERSIONS:
        return ValueError(f'{found} (it is of operator set {opset}: that '
                          f'needs ONNX Runtime {FIRST_VERSIONS[opset]} or '
                          f'newer, or an export with --opset)')
    return found


def _number(version: str) -> Tuple[int, ...]:
    """'1.20.1' -> (1, 20)."""
    return tuple(int(part) for part in re.findall(r'\d+', version)[:2])
