# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The modes in which exported networks run, and what they take."""
from importlib.util import find_spec
from typing import List, Sequence

from ..deploy import Manifest
from ..deploy.sessions import RUNTIMES, check_runtime
from ..errors import InputError, input_errors

__all__ = [
    'DEPLOYED_MODES', 'ONNX_MODES', 'check_deployed_modes', 'fitting_modes',
    'format_of', 'packages_of'
]

# Name of each mode: the runtime and the precision.
DEPLOYED_MODES = {
    'onnxruntime': ('onnxruntime', 'fp32'),
    'openvino': ('openvino', 'fp32'),
    'openvino-bf16': ('openvino', 'bf16'),
    'litert': ('litert', 'fp32')
}
# Those that run what anybody exported as ONNX.
ONNX_MODES = tuple(mode for mode, (runtime, _) in DEPLOYED_MODES.items()
                   if RUNTIMES[runtime].ending == '.onnx')
# What installs a runtime and what exporting for it takes, and their modules.
_NEEDED = dict(
    onnxruntime=('deploy', 'onnx', 'onnxruntime'),
    openvino=('deploy', 'onnx', 'onnxruntime', 'openvino'),
    litert=('deploy,litert', 'onnx', 'onnxruntime', 'litert_torch',
            'ai_edge_litert'))
# Distributions of runtimes that are not named as these are.
_DISTRIBUTIONS = dict(litert='ai-edge-litert')


def format_of(mode: str) -> str:
    """The format of the graphs that a mode runs: 'onnx' or 'litert'."""
    return 'onnx' if mode in ONNX_MODES else 'litert'


def packages_of(modes: Sequence[str]) -> List[str]:
    """The distributions of the runtimes of modes."""
    runtimes = sorted({DEPLOYED_MODES[mode][0] for mode in modes})
    return [_DISTRIBUTIONS.get(name, name) for name in runtimes]


def check_deployed_modes(modes: Sequence[str]) -> None:
    """Refuse modes whose packages are missing, or that the processor lacks.

    Raises:
        InputError: Naming the mode, and what to install.
    """
    for mode in modes:
        runtime, precision = DEPLOYED_MODES[mode]
        extra, *needed = _NEEDED[runtime]
        for package in needed:
            if find_spec(package) is None:
                raise InputError(
                    f'--modes {mode} needs {package}, which is not installed: '
                    f'pip install -e ".[{extra}]"')
        with input_errors(ImportError, ValueError, where=f'--modes {mode}: '):
            check_runtime(runtime, precision)


def fitting_modes(folder: str, modes: Sequence[str]) -> List[str]:
    """The modes that run what an exported folder has.

    Raises:
        InputError: If none does, or the folder is none.
    """
    with input_errors(OSError, ValueError):
        file = Manifest.load(folder).segments[0].file

    def fits(mode: str) -> bool:
        return file.endswith(RUNTIMES[DEPLOYED_MODES[mode][0]].ending)

    found = list(filter(fits, modes))
    if not found:
        others = ', '.join(filter(fits, DEPLOYED_MODES))
        raise InputError(
            f'{folder!r} has graphs such as {file}, which --modes '
            f'{" ".join(modes)} cannot run: add one of {others}')
    return found
