# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The runtimes behind one interface: named arrays in, arrays out."""
import os
import threading
import weakref
from collections.abc import Sequence as AbstractSequence
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

import numpy as np

from .graphs import Graph, read_graph, read_regular
from .litert_session import LiteRtSession
from .manifest import Manifest, Segment
from .onnxruntime_session import OnnxRuntimeSession
from .openvino_session import OpenVinoSession, bucket
from .policy import all_finite
from .threads import check_threads

__all__ = [
    'PRECISIONS', 'RUNTIMES', 'Sessions', 'bucket', 'check_format',
    'check_outputs', 'check_runtime', 'open_session'
]

PRECISIONS = ('fp32', 'bf16')
RUNTIMES: Dict[str, Any] = dict(
    onnxruntime=OnnxRuntimeSession,
    openvino=OpenVinoSession,
    litert=LiteRtSession)


def check_runtime(runtime: str, precision: str) -> None:
    """Refuse a runtime that is not there, or cannot compute so."""
    for name, value, known in (('runtime', runtime, tuple(RUNTIMES)),
                               ('precision', precision, PRECISIONS)):
        if value not in known:
            raise ValueError(f'{name} must be one of {", ".join(known)}, got '
                             f'{value!r}')
    RUNTIMES[runtime].check(precision)


def check_format(runtime: str, graphs: Sequence[Graph]) -> None:
    """Refuse graphs of a format that a runtime does not read."""
    ending = RUNTIMES[runtime].ending
    for graph in graphs:
        if not graph.name.endswith(ending):
            fit = [name for name, kind in RUNTIMES.items()
                   if graph.name.endswith(kind.ending)]  # yapf: disable
            raise ValueError(
                f'{graph.name} cannot be run by {runtime}, which takes '
                f'{ending} files: choose the runtime {" or ".join(fit)}')


def open_session(runtime: str,
                 path: Union[str, os.PathLike],
                 outputs: Sequence[str],
                 threads: Optional[int] = None,
                 precision: str = 'fp32') -> Any:
    """Open one graph, of the file ``path``, to return ``outputs``.

    The rest is as for :class:`Sessions`.
    """
    graph = read_graph(os.path.basename(path), read_regular(path))
    graph = graph._replace(outputs=tuple(outputs))
    check_runtime(runtime, precision)
    check_format(runtime, [graph])
    return RUNTIMES[runtime].open([graph], check_threads(threads),
                                  precision)[0]


def check_outputs(segment: Segment, batch: int, outputs: Sequence[np.ndarray],
                  tensors: Mapping[str, Sequence[Any]]) -> None:
    """Refuse outputs for a batch of another shape, and logits not finite."""
    for name, output in zip(segment.outputs, outputs):
        due = (batch, *tensors[name][1:])
        if output.shape != due and not _fits(output.shape, due):
            raise ValueError(
                f'{segment.file} returns {name} in the shape {output.shape} '
                f'where {due} is due: export again')
    if not all_finite(outputs[0]):
        count = np.count_nonzero(~np.isfinite(outputs[0]).all(1))
        raise ValueError(
            f'{segment.file} returns logits that are not finite for {count} '
            f'of {batch} images: look for very large numbers in the batch, '
            f'else export again')


def _fits(shape: Sequence[int], due: Sequence[Optional[int]]) -> bool:
    """Whether a shape is the one that is due, of which None is any size."""
    return len(shape) == len(due) and all(
        size in (None, have) for have, size in zip(shape, due))


class Sessions(AbstractSequence):
    """The graphs of an exported folder, open in a runtime.

    What a runtime has open belongs to one process. A copy, also one that was
    pickled, and a forked process open the folder again. For the arguments and
    errors see :meth:`mmdynperceiver.deploy.Runner.load`.
    """

    def __init__(self,
                 folder: Union[str, os.PathLike],
                 manifest: Manifest,
                 runtime: str = 'onnxruntime',
                 threads: Optional[int] = None,
                 precision: str = 'fp32') -> None:
        self.folder = os.path.abspath(folder)
        self.manifest = manifest
        self.runtime = runtime
        self.threads = threads
        self.precision = precision
        self._sessions: Optional[List[Any]] = self._reopen()
        # What runs all as one, or None, as soon as it was asked for.
        self._whole: List[Any] = []
        _ALL.add(self)

    def _reopen(self, whole: bool = False) -> Any:
        """Open all segments, or what runs them as one."""
        check_runtime(self.runtime, self.precision)
        kind = RUNTIMES[self.runtime]
        graphs = self.manifest.read_graphs(self.folder)
        check_format(self.runtime, graphs)
        return (kind.open_whole if whole else kind.open)(
            graphs, check_threads(self.threads), self.precision)

    @property
    def whole(self) -> Any:
        """All segments as one, which returns the logits of each; None where
        that cannot be. It is made when it is first asked for."""
        with _LOCK:
            if not self._whole:
                self._whole.append(self._reopen(whole=True))
            return self._whole[0]

    def __len__(self) -> int:
        """Number of graphs."""
        return len(self.manifest.graphs)

    def __getitem__(self, index: Any) -> Any:
        """One graph, or several."""
        found = self._sessions
        if found is None:
            with _LOCK:
                if self._sessions is None:
                    self._sessions = self._reopen()
                found = self._sessions
        return found[index]

    def __reduce__(self) -> Any:
        """A copy opens the folder again."""
        return type(self), (self.folder, self.manifest, self.runtime,
                            self.threads, self.precision)


_ALL: 'weakref.WeakSet[Sessions]' = weakref.WeakSet()
_LOCK = threading.Lock()
# What another process has open; closing it here would wait for threads that
# are not here.
_OF_PARENTS: List[Any] = []


def _after_fork() -> None:
    """Let what the parent has open alone."""
    global _LOCK
    _LOCK = threading.Lock()
    for sessions in list(_ALL):
        _OF_PARENTS.append((sessions._sessions, sessions._whole))
        sessions._sessions, sessions._whole = None, []


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_after_fork)
