# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The runtimes behind one interface: named arrays in, arrays out."""
import functools
import os
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np

__all__ = [
    'RUNTIMES', 'OnnxRuntimeSession', 'OpenVinoSession', 'bucket',
    'check_runtime', 'open_session'
]

PRECISIONS = ('fp32', 'bf16')
# Fixed shapes are faster than a dynamic batch, by up to a third, but each is
# a graph of its own. So many reach to batches of 256.
MAX_COMPILED = 32


def bucket(batch: int) -> int:
    """The batch size to pad to: up to 8 itself, then four in each octave.

    Samples leave in any number. Fewer sizes than these waste more on padding
    than a dynamic batch costs, more would take longer to compile.

    Args:
        batch (int): Samples in the batch.
    """
    step = 1 << max(0, (batch - 1).bit_length() - 3)
    return -(-batch // step) * step


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
        runtime = self.check(precision)
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads or len(_cores())
        # Else the threads of one segment would still be waiting for work,
        # busily, while the next segment's need the cores.
        options.add_session_config_entry('session.force_spinning_stop', '1')
        self._session = runtime.InferenceSession(
            path, options, providers=['CPUExecutionProvider'])
        self._outputs = list(outputs)

    @staticmethod
    def check(precision: str) -> Any:
        """Import the runtime, if it can compute so.

        Args:
            precision (str): See the class.
        """
        if precision != 'fp32':
            raise ValueError(f'ONNX Runtime computes in the precision of the '
                             f'graph, got {precision!r}: choose the runtime '
                             f'openvino, or export to int8')
        return _import('onnxruntime', 'onnxruntime')

    def run(self, feeds: Mapping[str, np.ndarray]) -> List[np.ndarray]:
        """Compute the outputs.

        Args:
            feeds (Mapping[str, ndarray]): All inputs.
        """
        return self._session.run(self._outputs, dict(feeds))


class OpenVinoSession:
    """A graph in OpenVINO, on the CPU.

    It is compiled for each size that batches are padded to; see
    :func:`bucket`.

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
        self._core = self.check(precision)
        self._settings: Dict[str, Any] = dict(
            PERFORMANCE_HINT='LATENCY',
            # OpenVINO 2026.4 crashes when it fuses attention over very few
            # tokens, and these networks are no slower without.
            SNIPPETS_MODE='DISABLE',
            INFERENCE_PRECISION_HINT=dict(fp32='f32', bf16='bf16')[precision],
            INFERENCE_NUM_THREADS=threads or len(_cores()))
        self._path = path
        self._outputs = list(outputs)
        self._requests: Dict[Optional[int], Any] = {}

    @staticmethod
    def check(precision: str) -> Any:
        """Import the runtime, if it can compute so.

        Args:
            precision (str): See the class.
        """
        core = _openvino_core()
        if precision == 'bf16':
            offered = core.get_property('CPU', 'OPTIMIZATION_CAPABILITIES')
            if 'BF16' not in offered:
                raise ValueError(
                    f'this processor does not compute in bf16 (OpenVINO '
                    f'lists {", ".join(offered)}): use fp32')
        return core

    def _size(self, batch: int) -> Optional[int]:
        """The size to compile for; None, any size."""
        size = bucket(batch)
        if size in self._requests or len(self._requests) < MAX_COMPILED:
            return size
        return None

    def _compile(self, size: Optional[int], feeds: Mapping[str,
                                                           np.ndarray]) -> Any:
        """A request to the graph for batches of one size, or of any."""
        model = self._core.read_model(self._path)
        if size is not None:
            model.reshape({
                name: [size, *value.shape[1:]]
                for name, value in feeds.items()
            })
        compiled = self._core.compile_model(model, 'CPU', self._settings)
        return compiled.create_infer_request()

    def run(self, feeds: Mapping[str, np.ndarray]) -> List[np.ndarray]:
        """Compute the outputs.

        Args:
            feeds (Mapping[str, ndarray]): All inputs.

        Returns:
            list[ndarray]: Views of the runtime's own memory; the next run
            may write over them.
        """
        batch = len(next(iter(feeds.values())))
        size = self._size(batch)
        if size not in self._requests:
            self._requests[size] = self._compile(size, feeds)
        request = self._requests[size]
        request.infer(
            {
                name: _pad(value, size or batch)
                for name, value in feeds.items()
            },
            share_inputs=True)
        return [
            request.get_tensor(name).data[:batch] for name in self._outputs
        ]


@functools.lru_cache(maxsize=None)
def _openvino_core() -> Any:
    """OpenVINO, opened once for the process.

    When it compiles, 2026.4 gives the thread a signal stack of its own, and
    the one before back when it goes. Of several cores that go in another
    order, the stack that stays is none any more, and the next signal with a
    handler ends the process.
    """
    return _import('openvino', 'openvino').Core()


def _pad(array: np.ndarray, size: int) -> np.ndarray:
    """Repeat the last sample up to a size."""
    missing = size - len(array)
    if not missing:
        return array
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])


def check_runtime(runtime: str, precision: str) -> None:
    """Refuse a runtime that is not there, or cannot compute so.

    Args:
        runtime (str): One of ``RUNTIMES``.
        precision (str): 'fp32' or 'bf16'.

    Raises:
        ImportError: If the runtime is not installed.
        ValueError: If an argument does not fit, or not this processor.
    """
    if runtime not in RUNTIMES:
        raise ValueError(f'runtime must be one of {", ".join(RUNTIMES)}, got '
                         f'{runtime!r}')
    if precision not in PRECISIONS:
        raise ValueError(f'precision must be one of {", ".join(PRECISIONS)}, '
                         f'got {precision!r}')
    RUNTIMES[runtime].check(precision)


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
    check_runtime(runtime, precision)
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


RUNTIMES: Dict[str, Any] = dict(
    onnxruntime=OnnxRuntimeSession, openvino=OpenVinoSession)
