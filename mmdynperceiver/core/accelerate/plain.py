# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Which layers may be replaced by what their class computes.

Weights are read, and folded, only of layers that are called without anything
else happening. All others (wrapped, as by adapters of low rank, hooked,
subclassed, parametrised, quantised) are called as they are.
"""
import torch
import torch.nn.modules.module as torch_modules
from torch import Tensor, nn

__all__ = ['is_hooked', 'is_plain', 'is_transformed']

# Other classes, of quantised or distributed weights, compute otherwise.
_TENSORS = (Tensor, nn.Parameter)


def is_hooked(module: nn.Module) -> bool:
    """Whether calling a module does more than its class's ``forward``.

    Args:
        module (nn.Module): One with hooks, or with a ``forward`` of its own
            in place of its class's. Hooks of all modules count too.
    """
    # Written out, because it is asked in every pass.
    return bool(module._forward_hooks or module._forward_pre_hooks
                or module._backward_hooks or module._backward_pre_hooks
                or torch_modules._global_forward_hooks
                or torch_modules._global_forward_pre_hooks
                or torch_modules._global_backward_hooks
                or torch_modules._global_backward_pre_hooks
                or 'forward' in module.__dict__)


def is_plain(module: object, *kinds: type) -> bool:
    """Whether a module does what its class does and no more.

    Args:
        module (object): The module, or None.
        *kinds (type): Classes of which it may be; a subclass is another
            class, and so is that of a module with a parametrisation.
    """
    if type(module) not in kinds:
        return False
    assert isinstance(module, nn.Module)
    if is_hooked(module):
        return False
    for tensor in module._parameters.values():
        if tensor is not None and type(tensor) not in _TENSORS:
            return False
    return True


def is_transformed() -> bool:
    """Whether torch.func transforms the call, or tangents are carried.

    Functions of our own and results in place are for neither.
    """
    return torch._C._are_functorch_transforms_active() or \
        torch.autograd.forward_ad._current_level >= 0
