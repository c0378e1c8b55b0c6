# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Graphs in LiteRT, on the CPU: the runtime of telephones, here."""
import contextlib
import importlib
from collections import deque
from typing import Any, Deque, List, Mapping, Optional, Sequence

import numpy as np

from .graphs import Graph
from .runtimes import failure, import_runtime

__all__ = ['LiteRtSession']

NAME = 'LiteRT'
PACKAGE = 'ai_edge_litert'


class LiteRtSession:
    """A segment in LiteRT; it can be run in several threads at once.

    The graph is of one sample, and those of a batch run one after the other.
    An interpreter runs for one caller at a time; there are as many as callers
    that came together.
    """

    ending = '.tflite'

    def __init__(self, graph: Graph, threads: int) -> None:
        self._graph = graph
        self._threads = threads
        self._free: Deque[Any] = deque()
        try:
            self._free.append(self._open())
        except Exception as error:  # the runtime's classes have no base
            raise failure(graph.name, 'loaded', NAME, error) from error

    @staticmethod
    def check(precision: str) -> Any:
        """Import the runtime, which computes as the graph is."""
        if precision != 'fp32':
            raise ValueError(f'LiteRT computes in the precision of the graph, '
                             f'got {precision!r}: choose fp32')
        import_runtime(PACKAGE)
        return importlib.import_module(f'{PACKAGE}.interpreter')

    @classmethod
    def open(cls, graphs: Sequence[Graph], threads: int,
             precision: str) -> 'List[LiteRtSession]':
        """Open graphs, with so many threads for each."""
        cls.check(precision)
        return [cls(graph, threads) for graph in graphs]

    @classmethod
    def open_whole(cls, graphs: Sequence[Graph], threads: int,
                   precision: str) -> None:
        """There is no graph of all: segments do as well."""

    def _open(self) -> Any:
        """What runs the graph for one caller."""
        interpreter = self.check('fp32').Interpreter(
            model_content=self._graph.content, num_threads=self._threads)
        return interpreter.get_signature_runner()

    def run(self,
            feeds: Mapping[str, np.ndarray],
            held: Optional[contextlib.ExitStack] = None) -> List[np.ndarray]:
        """Compute the outputs, which are nobody else's; ``held`` is not used.
        """
        try:
            try:
                runner = self._free.pop()
            except IndexError:
                runner = self._open()
            samples = zip(*(value[:, None] for value in feeds.values()))
            found = [runner(**dict(zip(feeds, sample))) for sample in samples]
            self._free.append(runner)
        except Exception as error:
            raise failure(self._graph.name, 'run', NAME, error) from error
        return [
            np.concatenate([one[name] for one in found])
            for name in self._graph.outputs
        ]
