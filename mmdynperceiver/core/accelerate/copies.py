# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Copies of models: whole, or of their structure without data."""
import copy
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, Optional, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ['NeedsDataError', 'called_without_hooks', 'copy_model', 'on_meta']

_Module = TypeVar('_Module', bound=nn.Module)


class NeedsDataError(NotImplementedError):
    """A module cannot run on the meta device."""


def copy_model(model: _Module) -> _Module:
    """Copy a model, also one that keeps results among its attributes.

    PyTorch refuses to copy tensors with a history, which is what weight norm,
    spectral norm and pruning by hooks leave in place of a weight.
    """
    return _copied(
        model, lambda tensor: None
        if tensor.is_leaf else tensor.detach().clone())


def on_meta(model: _Module) -> _Module:
    """Copy the structure of a model, not its data: on the meta device, in eval
    mode, without gradients, in single precision."""
    with torch.inference_mode(False), torch.no_grad():
        structure = _copied(model, _without_data)
        return structure.to('meta').float().eval().requires_grad_(False)


def _without_data(tensor: Tensor) -> Optional[Tensor]:
    """A stand-in of the same shape; None for what has none."""
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.is_quantized or \
            tensor.layout != torch.strided:
        return None
    dtype = torch.float32 if tensor.is_floating_point() else None
    empty = torch.empty_like(tensor, device='meta', dtype=dtype)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, requires_grad=False)
    return empty


def _copied(model: _Module, replace: Callable[[Tensor],
                                              Optional[Tensor]]) -> _Module:
    """Copy a model with what takes the place of a tensor, None for a copy."""
    memo: Dict[int, Any] = {}
    for module in model.modules():
        for found in (module._parameters, module._buffers, vars(module)):
            for tensor in found.values():
                if isinstance(tensor, Tensor) and id(tensor) not in memo:
                    replaced = replace(tensor)
                    if replaced is not None:
                        memo[id(tensor)] = replaced
    return copy.deepcopy(model, memo)


@contextmanager
def called_without_hooks(
        structure: nn.Module,
        watch: Optional[Callable[[Any], None]] = None) -> Iterator[None]:
    """Let the modules of a structure (from ``on_meta``) be called without
    anyone's hooks, which expect data; whoever counts calls has not called. The
    same holds for a function in place of a module's ``forward``.

    ``watch`` is shown what each module returns. Linear layers that others
    compute, such as quantised ones, run as PyTorch's do.

    Raises:
        NeedsDataError: If a module cannot run without data; it is named.
    """
    modules = dict(structure.named_modules())
    # What PyTorch calls instead, where a module was compiled in place.
    attribute = '_compiled_call_impl'
    for name, module in modules.items():
        module.__dict__[attribute] = _direct(name, module, watch)
    try:
        yield
    finally:
        for module in modules.values():
            del module.__dict__[attribute]


def _direct(name: str, module: nn.Module,
            watch: Optional[Callable[[Any], None]]) -> Callable[..., Any]:
    """The call of a module that is all its own."""
    forward = module.forward
    if getattr(forward, '__self__', None) is not module:
        forward = type(module).forward.__get__(module)

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            output = forward(*args, **kwargs)
        except NeedsDataError:
            raise
        except (NotImplementedError, RuntimeError) as error:
            sizes = [
                getattr(module, size, None)
                for size in ('out_features', 'in_features')
            ]
            if None in sizes:
                reason = str(error).strip().split('\n')[0]
                raise NeedsDataError(
                    f'{name or "the model"} ({type(module).__name__}) does '
                    f'not run on the meta device, where nothing is computed: '
                    f'{reason}') from error
            output = F.linear(args[0], args[0].new_empty(sizes))
        if watch is not None:
            watch(output)
        return output

    return call
