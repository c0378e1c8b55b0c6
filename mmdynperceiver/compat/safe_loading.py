# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Let safe loading (``weights_only=True``) accept mmengine checkpoints.

Since torch 2.6 ``torch.load`` refuses every global that is not allow-listed.
A checkpoint of mmengine's Runner holds its message hub (log scalars as
``HistoryBuffer``, which hold NumPy arrays and refer to functions of their own
class), NumPy scalars as metric values, and for one-cycle schedules a
reference to the annealing function. Exactly these are allowed. mmengine 0.10
has no handling of its own. OneDL's fork of it has: it allows ``getattr``
itself, takes what was allowed back after each file, and loads what was refused
once more without checks. None of that is left.
"""
from __future__ import annotations
import codecs
from pickle import UnpicklingError
from types import ModuleType
from typing import Any, Callable

from .import_hooks import after_import, replace_everywhere

_STATISTICS = ('current', 'max', 'mean', 'min')
_ANNEALING = ('_annealing_cos', '_annealing_linear')
# Plain numbers, booleans and text. Object arrays stay refused.
_DTYPES = '?bBhHiIlLqQefdU'


class _OneCycleName:
    """Inert stand-in for the scheduler class named in a checkpoint."""


def _attribute(owner: type, name: str):
    """Stand in for ``getattr`` while a checkpoint is read safely.

    Functions of a class are pickled as ``getattr(HistoryBuffer, 'mean')``.
    Allowing ``getattr`` itself would let a hostile file reach anything, so
    this one knows the functions that mmengine stores and nothing else.
    """
    from mmengine.logging.history_buffer import HistoryBuffer
    if owner is HistoryBuffer and name in _STATISTICS:
        return getattr(HistoryBuffer, name)
    if owner is _OneCycleName and name in _ANNEALING:
        from mmengine.optim.scheduler.param_scheduler import \
            OneCycleParamScheduler
        return getattr(OneCycleParamScheduler, name)
    raise UnpicklingError(
        f'refused to load a checkpoint that asks for the attribute {name!r} '
        f'of {owner!r}, which no checkpoint of mmengine needs')


def _stand_in(target: Any, module: str, name: str) -> Any:
    """Let torch find something under a name, for which it asks the thing
    itself: it takes names beside things only since 2.6."""
    target.__module__ = module
    target.__name__ = target.__qualname__ = name
    return target


def checkpoint_globals() -> list:
    """List what a checkpoint of mmengine's Runner may refer to."""
    import numpy as np
    from mmengine.logging.history_buffer import HistoryBuffer

    # Bytes, such as those of NumPy's scalars, are pickled by `encode`, which
    # torch knows since 2.5. Each type of numbers once, in the same order in
    # every process.
    allowed: list = [HistoryBuffer, np.ndarray, np.dtype, codecs.encode]
    allowed += dict.fromkeys(type(np.dtype(code)) for code in _DTYPES)
    # `numpy.core` of NumPy 1 is `numpy._core` in NumPy 2, and pickles name
    # the one that wrote them. Ask objects for theirs, to touch neither.
    functions = np.empty(0).__reduce__()[0], np.float64(0).__reduce__()[0]
    for package in ('numpy.core.multiarray', 'numpy._core.multiarray'):
        for name, function in zip(('_reconstruct', 'scalar'), functions):
            allowed.append(_stand_in(_same(function), package, name))
    scheduler = 'mmengine.optim.scheduler.param_scheduler'
    allowed.append(
        _stand_in(_OneCycleName, scheduler, 'OneCycleParamScheduler'))
    allowed.append(_stand_in(_attribute, 'builtins', 'getattr'))
    return allowed


def _same(function: Callable) -> Callable:
    """A function that does the same."""
    return lambda *args: function(*args)


@after_import('mmengine.runner.checkpoint')
def allow_mmengine_checkpoints(module: ModuleType) -> None:
    """Allow-list the globals once ``mmengine.runner.checkpoint`` is there."""
    import torch

    torch.serialization.add_safe_globals(checkpoint_globals())


def _safe_torch_load(file: Any,
                     map_location: Any = None,
                     weights_only: Any = None) -> Any:
    """Load what is allowed here, and refuse all else, whoever asks."""
    import torch
    return torch.load(file, map_location=map_location, weights_only=True)


@after_import('mmengine.runner.checkpoint')
def stay_strict(module: ModuleType) -> None:
    """Take the place of the fork's own loading, if it is there."""
    if hasattr(module, '_safe_torch_load'):
        replace_everywhere(module, _safe_torch_load)
