# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Graphs in OpenVINO, on the CPU."""
import contextlib
import functools
import threading
from collections import deque
from typing import (Any, Deque, Dict, FrozenSet, List, Mapping, NamedTuple,
                    Optional, Sequence, Tuple)

import numpy as np

from .graphs import Graph
from .runtimes import failure, import_runtime

__all__ = ['MAX_COMPILED', 'OpenVinoSession', 'bucket']

NAME = 'OpenVINO'
# Fixed shapes are faster than a dynamic batch, by up to a third, but each is
# a graph of its own. So many reach to batches of 256.
MAX_COMPILED = 32


def bucket(batch: int) -> int:
    """The batch size to pad to: up to 8 itself, then four in each octave.

    Samples leave in any number. Fewer sizes than these waste more on padding
    than a dynamic batch costs, more would take longer to compile.
    """
    step = 1 << max(0, (batch - 1).bit_length() - 3)
    return -(-batch // step) * step


class _Compiled(NamedTuple):
    """A graph for one size of batches, and its requests that are free.

    A request has memory of its own, so one runs for one caller at a time.
    There are as many as callers that came together.
    """

    model: Any
    # What batches are padded to; None, they stay as they are.
    size: Optional[int]
    free: 'Deque[_Request]'


class _Request:
    """A request of OpenVINO, and the arrays that are its inputs and outputs.

    What one segment leaves for the next is the same arrays in each call, and
    handing an array over takes as long as a layer: it is done once.

    Args:
        compiled (Any): OpenVINO's compiled model.
        outputs (Sequence[str]): Names of the outputs to return.
        halved (frozenset[str]): Inputs and outputs in bf16, which NumPy does
            not know: their arrays are of uint16.
    """

    def __init__(self, compiled: Any, outputs: Sequence[str],
                 halved: FrozenSet[str]) -> None:
        self._request = compiled.create_infer_request()
        self._halved = halved
        # By port: that is found sooner than by name.
        self._ports = {
            name: port
            for port in compiled.inputs
            for name in port.get_names()
        }
        # Kept, so that their memory cannot become that of others.
        self._given: Dict[str, np.ndarray] = {}
        self._outputs = outputs
        # Outputs of no fixed shape lie elsewhere each time.
        fixed = all(
            compiled.output(name).partial_shape.is_static for name in outputs)
        self._fixed = self._found() if fixed else ()

    def run(self, feeds: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        """Compute outputs, which lie in the request's memory, of inputs in one
        piece each."""
        for name, value in feeds.items():
            if self._given.get(name) is value:
                continue
            if not value.flags.writeable:
                value = value.copy()  # OpenVINO shares no others
            self._request.set_tensor(self._ports[name],
                                     self._tensor(name, value))
            self._given[name] = value
        # Else all outputs would be copied.
        self._request.infer(share_outputs=True)
        return self._fixed or self._found()

    def _found(self) -> Tuple[np.ndarray, ...]:
        """The outputs, in the request's memory."""
        found = ((name, self._request.get_tensor(name).data)
                 for name in self._outputs)
        return tuple(
            data.view(np.uint16) if name in self._halved else data
            for name, data in found)

    def _tensor(self, name: str, value: np.ndarray) -> Any:
        """An input, in the memory of its array."""
        runtime = import_runtime('openvino')
        if name not in self._halved:
            return runtime.Tensor(value, shared_memory=True)
        if value.dtype != np.uint16:
            raise ValueError(f'{name} must be what another segment left, in '
                             f'bf16, got {value.dtype}')
        return runtime.Tensor(value, runtime.Shape(value.shape),
                              runtime.Type.bf16)


class OpenVinoSession:
    """A segment in OpenVINO; it can be run in several threads at once.

    It is compiled for each size that batches are padded to; see
    :func:`bucket`. Of several graphs, each of which reads what those before
    have left, one is made, which returns the first output of each.
    """

    ending = '.onnx'

    def __init__(self, graphs: Sequence[Graph], threads: int,
                 precision: str) -> None:
        self._core = self.check(precision)
        self._settings: Dict[str, Any] = dict(
            PERFORMANCE_HINT='LATENCY',
            INFERENCE_PRECISION_HINT=dict(fp32='f32', bf16='bf16')[precision],
            INFERENCE_NUM_THREADS=threads)
        self._name = ' to '.join(g.name
                                 for g in graphs[::len(graphs) - 1 or 1])
        self._outputs = list(graphs[0].outputs) if len(graphs) == 1 else [
            graph.outputs[0] for graph in graphs
        ]
        # Maps of any size are compiled for each.
        self._any_size = any(None in shape[1:] for graph in graphs
                             for shape in graph.inputs.values())
        # In bf16, so is what stays between segments: half of the memory, and
        # no conversion on either side.
        self._halved: FrozenSet[str] = graphs[0].handed_on \
            if precision == 'bf16' and len(graphs) == 1 else frozenset()
        self._compiled: Dict[Any, _Compiled] = {}
        self._lock = threading.Lock()
        try:
            models = [self._core.read_model(g.content) for g in graphs]
            self._model = models[0] if len(models) == 1 else _chain(
                models, self._outputs)
        except Exception as error:
            raise failure(self._name, 'loaded', NAME, error) from error

    @staticmethod
    def check(precision: str) -> Any:
        """Import the runtime, if this processor has the precision."""
        core = _openvino_core()
        if precision == 'bf16':
            offered = core.get_property('CPU', 'OPTIMIZATION_CAPABILITIES')
            if 'BF16' not in offered:
                raise ValueError(
                    f'this processor does not compute in bf16 (OpenVINO '
                    f'lists {", ".join(offered)}): use fp32')
        return core

    @classmethod
    def open(cls, graphs: Sequence[Graph], threads: int,
             precision: str) -> 'List[OpenVinoSession]':
        """Open graphs; OpenVINO has one pool for all of the process."""
        return [cls([graph], threads, precision) for graph in graphs]

    @classmethod
    def open_whole(cls, graphs: Sequence[Graph], threads: int,
                   precision: str) -> 'OpenVinoSession':
        """Open all graphs as one that returns the logits of each."""
        return cls(graphs, threads, precision)

    def _compile(self, batch: int, feeds: Mapping[str,
                                                  np.ndarray]) -> _Compiled:
        """What is compiled for a batch."""
        size: Optional[int] = bucket(batch)
        key: Any = size
        if self._any_size:
            key = (size, *(value.shape[1:] for value in feeds.values()))
        if key in self._compiled:
            return self._compiled[key]
        with self._lock:
            if key not in self._compiled and \
                    len(self._compiled) >= MAX_COMPILED:
                size = key = None
            if key not in self._compiled:
                model = self._model.clone()
                if size is not None:
                    model.reshape({
                        name: [size, *value.shape[1:]]
                        for name, value in feeds.items()
                    })
                compiled = self._core.compile_model(
                    _halve(model, self._halved), 'CPU', self._settings)
                self._compiled[key] = _Compiled(compiled, size, deque())
        return self._compiled[key]

    def run(self,
            feeds: Mapping[str, np.ndarray],
            held: Optional[contextlib.ExitStack] = None
            ) -> Sequence[np.ndarray]:
        """Compute the outputs of all inputs.

        With ``held`` they are in the runtime's own memory, which nobody else
        gets until that closes; without they are copies.
        """
        batch = len(next(iter(feeds.values())))
        try:
            compiled = self._compile(batch, feeds)
            try:
                request = compiled.free.pop()
            except IndexError:
                request = _Request(compiled.model, self._outputs, self._halved)
            size = compiled.size or batch
            outputs = request.run({
                name: _pad(value, size)
                for name, value in feeds.items()
            })
            if size != batch:
                outputs = [output[:batch] for output in outputs]
        except Exception as error:
            raise failure(self._name, 'run', NAME, error) from error
        if held is None:
            outputs = [output.copy() for output in outputs]
            compiled.free.append(request)
        else:
            held.callback(compiled.free.append, request)
        return outputs


@functools.lru_cache(maxsize=None)
def _openvino_core() -> Any:
    """OpenVINO, opened once for the process.

    When it compiles, 2026.4 gives the thread a signal stack of its own, and
    the one before back when it goes. Of several cores that go in another
    order, the stack that stays is none any more, and the next signal with a
    handler ends the process.
    """
    return import_runtime('openvino').Core()


def _chain(models: Sequence[Any], outputs: Sequence[str]) -> Any:
    """One model of several, each of which reads what those before made."""
    runtime = import_runtime('openvino')
    made: Dict[str, Any] = {}
    inputs = []
    for model in models:
        for parameter in model.get_parameters():
            port = parameter.output(0)
            name = port.get_any_name()
            if name not in made:
                made[name] = port
                inputs.append(parameter)
            elif made[name] != port:
                for reader in port.get_target_inputs():
                    reader.replace_source_output(made[name])
        for output in model.outputs:
            source = output.get_node().input_value(0)
            made.update(dict.fromkeys(output.get_names(), source))
    results = [
        runtime.opset13.result(made[name], name=name) for name in outputs
    ]
    return runtime.Model(results, inputs)


def _halve(model: Any, names: FrozenSet[str]) -> Any:
    """A model whose inputs and outputs of these names are in bf16."""
    if not names:
        return model
    runtime = import_runtime('openvino')
    steps = runtime.preprocess.PrePostProcessor(model)
    for ports, made in ((model.inputs, steps.input), (model.outputs,
                                                      steps.output)):
        for number, port in enumerate(ports):
            if names & port.get_names():
                made(number).tensor().set_element_type(runtime.Type.bf16)
    return steps.build()


def _pad(array: np.ndarray, size: int) -> np.ndarray:
    """Repeat the last sample up to a size, in one piece of memory."""
    missing = size - len(array)
    if not missing:
        return np.ascontiguousarray(array)
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])
