# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Which layers may be replaced by what their class computes, and how.

Weights are read, and folded, only of layers that are called without anything
else happening. All others (wrapped, as by adapters of low rank, hooked,
subclassed, parametrised, quantised) are called as they are.
"""
from typing import Callable, Optional

import torch
import torch.nn.modules.module as torch_modules
from torch import Tensor, nn

__all__ = ['is_hooked', 'is_transformed', 'is_unmodified', 'replace_modules']

# Other classes, of quantised or distributed weights, compute otherwise.
_TENSORS = (Tensor, nn.Parameter)


def is_hooked(module: nn.Module) -> bool:
    """Whether a call does more than the class's ``forward``: by hooks, those
    of all modules too, or by a ``forward`` of the module's own."""
    # Written out, because it is asked in every pass.
    return bool(module._forward_hooks or module._forward_pre_hooks
                or module._backward_hooks or module._backward_pre_hooks
                or torch_modules._global_forward_hooks
                or torch_modules._global_forward_pre_hooks
                or torch_modules._global_backward_hooks
                or torch_modules._global_backward_pre_hooks
                or 'forward' in module.__dict__)


def is_unmodified(module: object, *kinds: type) -> bool:
    """Whether a module is of one of these classes, not of a subclass or with a
    parametrisation, and does what that does and no more."""
    if type(module) not in kinds:
        return False
    assert isinstance(module, nn.Module)
    return not is_hooked(module) and all(
        tensor is None or type(tensor) in _TENSORS
        for tensor in module._parameters.values())


def is_transformed() -> bool:
    """Whether torch.func transforms the call, or tangents are carried.

    Functions of our own and results in place are for neither.
    """
    return torch._C._are_functorch_transforms_active() or \
        torch.autograd.forward_ad._current_level >= 0


def replace_modules(
        module: nn.Module,
        replacement: Callable[[nn.Module], Optional[nn.Module]]) -> nn.Module:
    """Replace modules wherever they are, in place.

    Args:
        module (nn.Module): Where to look.
        replacement (Callable): What takes a module's place; None where it
            stays, and those inside are looked at.
    """
    found = replacement(module)
    if found is not None:
        return found
    for name, child in module._modules.items():
        if child is not None:
            module._modules[name] = replace_modules(child, replacement)
    return module
