# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The runtimes behind one interface: named arrays in, arrays out."""
import os
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

__all__ = ['RUNTIMES', 'OnnxRuntimeSession', 'OpenVinoSession', 'open_session']

PRECISIONS = ('fp32', 'bf16')
# Fixed shapes are faster than a dynamic batch; each costs a compilation.
MAX_COMPILED = 8


class OnnxRuntimeSession:
    """A graph in ONNX Runtime, on the CPU.

    Args:
        path (str): File of the graph.
        outputs (Sequence[str]): What to return.
        threads (int, optional): Number of threads. Defaults to None, one for
            each core.
        precision (str): Must be 'fp32': this runtime computes as the graph
            is. Defaults to 'fp32'.

    Raises:
        ImportError: If ONNX Runtime is not installed.
        ValueError: If the precision does not fit.
    """

    def __init__(self,
                 path: str,
                 outputs: Sequence[str],
                 threads: Optional[int] = None,
                 precision: str = 'fp32') -> None:
        if precision != 'fp32':
            raise ValueError(f'ONNX Runtime computes in the precision of the '
                             f'graph, got {precision!r}: choose the runtime '
                             f'openvino, or export to int8')
        runtime = _import('onnxruntime', 'onnxruntime')
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads or len(_cores())
        # Else the threads of one segment would still be waiting for work,
        # busily, while the next segment's need the cores.
        options.add_session_config_entry('session.force_spinning_stop', '1')
        self._session = runtime.InferenceSession(
            path, options, providers=['CPUExecutionProvider'])
        self._outputs = list(outputs)

    def run(self, feeds: Mapping[str, np.ndarray]) -> List[np.ndarray]:
        """Compute the outputs.

        Args:
            feeds (Mapping[str, ndarray]): All inputs.
        """
        return self._session.run(self._outputs, dict(feeds))


class OpenVinoSession:
    """A graph in OpenVINO, on the CPU.

    Args:
        path (str): File of the graph.
        outputs (Sequence[str]): What to return.
        threads (int, optional): Number of threads. Defaults to None, one for
            each core.
        precision (str): 'fp32', or 'bf16' where the processor has it.
            Defaults to 'fp32'.

    Raises:
        ImportError: If OpenVINO is not installed.
        ValueError: If the processor does not have the precision.
    """

    def __init__(self,
                 path: str,
                 outputs: Sequence[str],
                 threads: Optional[int] = None,
                 precision: str = 'fp32') -> None:
        openvino = _import('openvino', 'openvino')
        self._core = openvino.Core()
        self._settings: Dict[str, Any] = dict(
            PERFORMANCE_HINT='LATENCY',
            # OpenVINO 2026.4 crashes when it fuses attention over very few
            # tokens, and these networks are no slower without.
            SNIPPETS_MODE='DISABLE',
            INFERENCE_PRECISION_HINT=self._precision(precision),
            INFERENCE_NUM_THREADS=threads or len(_cores()))
        self._path = path
        self._outputs = list(outputs)
        self._requests: Dict[Tuple[Any, ...], Any] = {}

    def _precision(self, precision: str) -> str:
        """OpenVINO's name of a precision."""
        if precision == 'bf16':
            offered = self._core.get_property('CPU',
                                              'OPTIMIZATION_CAPABILITIES')
            if 'BF16' not in offered:
                raise ValueError(
                    f'this processor does not compute in bf16 (OpenVINO '
                    f'lists {", ".join(offered)}): use fp32')
        return dict(fp32='f32', bf16='bf16')[precision]

    def _request(self, feeds: Mapping[str, np.ndarray]) -> Any:
        """The compiled graph for a batch of this size."""
        batch = len(next(iter(feeds.values())))
        key: Tuple[Any, ...] = (batch, )
        if key not in self._requests and len(self._requests) >= MAX_COMPILED:
            key = ('any', )
        if key not in self._requests:
            model = self._core.read_model(self._path)
            if key != ('any', ):
                model.reshape({
                    name: list(value.shape)
                    for name, value in feeds.items()
                })
            compiled = self._core.compile_model(model, 'CPU', self._settings)
            self._requests[key] = compiled.create_infer_request()
        return self._requests[key]

    def run(self, feeds: Mapping[str, np.ndarray]) -> List[np.ndarray]:
        """Compute the outputs.

        Args:
            feeds (Mapping[str, ndarray]): All inputs.

        Returns:
            list[ndarray]: Views of the runtime's own memory; the next run
            with a batch of this size writes over them.
        """
        request = self._request(feeds)
        request.infer(dict(feeds), share_inputs=True)
        return [request.get_tensor(name).data for name in self._outputs]


def open_session(runtime: str, path: str, outputs: Sequence[str],
                 threads: Optional[int], precision: str) -> Any:
    """Open a graph.

    Args:
        runtime (str): One of ``RUNTIMES``.
        path (str): File of the graph.
        outputs (Sequence[str]): What to return.
        threads (int, optional): Number of threads; None, one for each core.
        precision (str): 'fp32' or 'bf16'.

    Returns:
        OnnxRuntimeSession | OpenVinoSession: With the method ``run``.

    Raises:
        ImportError: If the runtime is not installed.
        ValueError: If an argument does not fit.
    """
    if runtime not in RUNTIMES:
        raise ValueError(f'runtime must be one of {", ".join(RUNTIMES)}, got '
                         f'{runtime!r}')
    if precision not in PRECISIONS:
        raise ValueError(f'precision must be one of {", ".join(PRECISIONS)}, '
                         f'got {precision!r}')
    if threads is not None and threads < 1:
        raise ValueError(f'threads must be at least 1, got {threads}')
    return RUNTIMES[runtime](path, outputs, threads, precision)


def _import(module: str, package: str) -> Any:
    """Import a runtime."""
    try:
        return __import__(module)
    except ImportError as error:
        raise ImportError(f'the runtime {module} is not installed: '
                          f'pip install {package}') from error


def _cores() -> Any:
    """The cores that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return os.sched_getaffinity(0)
    return range(os.cpu_count() or 1)


RUNTIMES = dict(onnxruntime=OnnxRuntimeSession, openvino=OpenVinoSession)
