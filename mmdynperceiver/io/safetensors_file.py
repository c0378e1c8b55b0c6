# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Weights as safetensors files: data, and no code."""
import os
from typing import Any, Dict, Mapping, Union

from torch import Tensor

from .atomic import atomic_file
from .describe import one_line

__all__ = ['ENDING', 'import_optional', 'read_safetensors', 'save_safetensors']

ENDING = '.safetensors'


def import_optional(module: str) -> Any:
    """A module of the extra ``hub``.

    Raises:
        ImportError: Saying what to install.
    """
    import importlib
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition('.')[0].replace('_', '-')
        raise ImportError(
            f'{package} is needed to save, load and share models as folders: '
            f'pip install {package}, or "mmdynperceiver[hub]"') from error


def read_safetensors(path: Union[str, os.PathLike]) -> Dict[str, Tensor]:
    """Read the tensors of a file, on the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If safetensors is not installed.
        ValueError: If it is cut short or damaged.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f'no weights file at {path!r}')
    library = import_optional('safetensors.torch')
    try:
        return library.load_file(path)
    except Exception as error:  # the library's own, which is no ValueError
        raise ValueError(f'{path!r} is no whole safetensors file: '
                         f'{one_line(error)}') from error


def save_safetensors(weights: Mapping[str, Tensor],
                     path: Union[str, os.PathLike]) -> None:
    """Write a state dict, whole or not at all; its folder must exist.

    Raises:
        ImportError: If safetensors is not installed.
        OSError: If it cannot be written.
    """
    library = import_optional('safetensors.torch')
    own = {
        name: value.detach().cpu().contiguous().clone()
        for name, value in weights.items()
    }
    with atomic_file(path) as temporary:
        with open(temporary, 'wb') as file:
            mode = os.fstat(file.fileno()).st_mode
        # What other libraries ask for to know whose tensors they are.
        library.save_file(own, temporary, metadata=dict(format='pt'))
        # It may be written as a file that nobody else can read.
        os.chmod(temporary, mode)
