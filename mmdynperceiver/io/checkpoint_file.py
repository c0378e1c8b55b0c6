# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Checkpoint files: one reader and one writer for all that load and save."""
import argparse
import importlib.util
import io
import os
import sys
from contextlib import nullcontext
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

import torch
from torch import Tensor

from ..errors import first_few
from .atomic import atomic_file
from .checkpoint_scan import check_file

__all__ = [
    'OPTIONAL', 'atomic_save', 'check_weights', 'conversions', 'dtype_fault',
    'in_words', 'misfits', 'read_checkpoint'
]

StateDict = Dict[str, Tensor]
# How entries end without which weights are whole, and which have any shape.
OPTIONAL = ('num_batches_tracked', '_extra_state')
Path = Union[str, os.PathLike]
# Where mmengine reads checkpoints, which compat/safe_loading.py extends.
_READER = 'mmengine.runner.checkpoint'


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """Read a checkpoint file with safe loading.

    Before anything is built, the checksums of its records are compared, and
    the sizes of its tensors with those of its data.

    Args:
        path (str | PathLike): The file; ``~`` is the home folder.

    Returns:
        Mapping: Its content, on the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a readable checkpoint, or holds more than
            data.
    """
    path = os.path.expanduser(os.fspath(path))
    if not os.path.isfile(path):
        raise FileNotFoundError(f'no checkpoint file at {path!r}')
    # Published files carry their command line, which is plain data.
    safe_globals = getattr(torch.serialization, 'safe_globals', None)
    context = safe_globals([argparse.Namespace]) if safe_globals else \
        nullcontext()
    try:
        check_file(path)
        with context:
            content = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # whatever a damaged pickle brings about
        reason = _reason(error)
        if 'mmengine.' in reason and _READER not in sys.modules and \
                importlib.util.find_spec('mmengine') is not None:
            # Of a training: what else is in it is allowed with mmengine.
            importlib.import_module(_READER)
            return read_checkpoint(path)
        if safe_globals is None and 'argparse' in reason:
            reason += (f' (torch {torch.__version__} cannot allow this plain '
                       f'data, torch 2.5 and later can)')
        raise ValueError(
            f'{path!r} is not a checkpoint that can be read safely (truncated '
            f'or damaged, or it holds code): {reason}') from error
    if not isinstance(content, Mapping):
        raise ValueError(f'{path!r} must hold a state dict, got '
                         f'{type(content).__name__}')
    return content


def _reason(error: Exception) -> str:
    """One line, without PyTorch's advice to load the file unsafely."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    text = str(error).rpartition('WeightsUnpickler error:')[2]
    lines = [
        line.strip() for line in text.split('\n')
        if line.strip() and not line.startswith('Weights only')
    ] or [type(error).__name__]
    return lines[0].split('. Please ')[0]


def check_weights(weights: Mapping[Any, Any]) -> StateDict:
    """Refuse entries that no network can compute with.

    Args:
        weights (Mapping): A state dict.

    Returns:
        dict[str, Tensor]: The same, without the prefix ``module.`` that
        distributed training leaves.

    Raises:
        ValueError: Naming the first entry that is not a dense tensor of
            finite real numbers of its own.
    """
    checked = {}
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(
                f'a state dict maps names to tensors, got {name!r}: '
                f'{type(value).__name__}')
        fault = _fault(value)
        # What a policy keeps besides weights it checks itself.
        if fault is None and not name.endswith('_extra_state') and \
                not torch.isfinite(value).all():
            fault = 'holds NaN or infinite values'
        if fault is not None:
            raise ValueError(f'damaged weights: {name!r} {fault}')
        checked[name.removeprefix('module.')] = value
    claimed = sum(v.numel() * v.element_size() for v in checked.values())
    storages = [value.untyped_storage() for value in checked.values()]
    held = sum({s.data_ptr(): s.nbytes() for s in storages}.values())
    # Entries that share weights are two or three.
    if claimed > 4 * held:
        raise ValueError(f'damaged weights: {claimed:,} bytes of entries '
                         f'share {held:,} bytes of data')
    return checked


def _fault(value: Tensor) -> Optional[str]:
    """What is wrong with a tensor apart from its values."""
    if value.is_nested or value.layout != torch.strided:
        return 'is sparse or nested, and dense weights are wanted'
    if value.is_quantized:
        return 'is quantised: give the weights before quantisation'
    if value.is_meta:
        return 'is on the meta device and has no values'
    if value.is_complex():
        return 'holds complex numbers'
    if value.is_floating_point() and value.element_size() < 2:
        return f'is {_name(value.dtype)}: give weights of 16 bits or more'
    available = value.untyped_storage().nbytes() // value.element_size()
    if value.numel() > available:
        return (f'has {value.numel():,} elements of which the file holds '
                f'{available:,}')
    return None


def dtype_fault(value: Tensor, own: Tensor) -> Optional[str]:
    """Why weights cannot become those of a network's own entry, if not so.

    Another precision is fine, another kind of number is not.
    """
    if value.dtype == own.dtype:
        return None
    kinds = [(v.is_floating_point(), v.dtype == torch.bool)
             for v in (value, own)]
    if kinds[0] != kinds[1]:
        return f'is {_name(value.dtype)} instead of {_name(own.dtype)}'
    if own.is_floating_point() and \
            torch.finfo(value.dtype).max > torch.finfo(own.dtype).max and \
            not torch.isfinite(value.to(own.dtype)).all():
        return f'has values beyond those of {_name(own.dtype)}'
    return None


def misfits(own: Mapping[str, Any],
            weights: Mapping[str, Any],
            optional: Tuple[str, ...] = OPTIONAL) -> Dict[str, List[str]]:
    """What is missing, unexpected, or of the wrong shape or type.

    Empty if the weights, tensors by name, fit the model's own; endings of
    names that may be missing are ``optional``.
    """
    needed = [name for name in own if not name.endswith(optional)]
    both = [(name, weights[name], own[name]) for name in needed
            if name in weights and isinstance(own[name], Tensor)]
    faults = [(name, dtype_fault(given, want)) for name, given, want in both]
    found = {
        'missing': [name for name in needed if name not in weights],
        'unexpected': [name for name in weights if name not in own],
        'wrong shape': [
            f'{name} is {tuple(given.shape)} instead of {tuple(want.shape)}'
            for name, given, want in both if given.shape != want.shape
        ],
        'wrong type': [f'{name} {fault}' for name, fault in faults if fault],
    }
    return {title: names for title, names in found.items() if names}


def in_words(problems: Mapping[str, List[str]], between: str = '; ') -> str:
    """What :func:`misfits` finds: the first names, and how many there are."""
    return between.join(f'{title}: {first_few(names, 3, str)}'
                        for title, names in problems.items())


def conversions(weights: Mapping[str, Tensor], own: Mapping[str,
                                                            Tensor]) -> str:
    """Say how weights become a network's own: 'from float16 to float32'."""
    found = {(_name(value.dtype), _name(own[name].dtype))
             for name, value in weights.items() if name in own}
    return ', '.join(f'from {given} to {taken}'
                     for given, taken in sorted(found) if given != taken)


def _name(dtype: torch.dtype) -> str:
    """Name of a type without the package."""
    return str(dtype).rpartition('.')[2]


def atomic_save(content: Any, path: Path) -> None:
    """Write what ``torch.load`` reads, whole or not at all.

    The file has reached the disk when it takes its name, so that no crash
    leaves half of one. What was there before stays if this fails.

    Args:
        content (Any): Tensors in dicts and lists.
        path (str | PathLike): The file; its folder must exist.

    Raises:
        OSError: If it cannot be written.
    """
    # torch.save into a file hides why the disk refuses.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    try:
        with atomic_file(path) as temporary, open(temporary, 'wb') as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(
            error.errno, f'cannot write the checkpoint {os.fspath(path)!r}: '
            f'{error.strerror or error}') from error
