# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""An optimizer's saved state is that of its own weights, or is refused.

PyTorch takes a state of any shape, and a fused step then writes beyond it.
"""
import copy
import math
from collections import defaultdict
from typing import Any, Dict, Iterable, Mapping, Optional

import torch
from mmengine.optim import OptimWrapperDict
from torch import Tensor

from ..core import check_weights
from .errors import InputError

__all__ = ['check_optimizers', 'is_finite', 'need']


def need(condition: bool, message: str) -> None:
    """Refuse what does not fit.

    Raises:
        InputError: With the message, if the condition does not hold.
    """
    if not condition:
        raise InputError(message)


def check_optimizers(wrapper: Any, given: Any, steps: int) -> None:
    """Check the state of one optimizer, or of several by their names.

    Args:
        wrapper (OptimWrapper | OptimWrapperDict): Around the optimizers.
        given (Any): Their saved state.
        steps (int): How many steps the training had made.

    Raises:
        InputError: Naming what is missing or does not fit.
    """
    need(isinstance(given, Mapping), 'the optimizer state is not a dict')
    if not isinstance(wrapper, OptimWrapperDict):
        _check_optimizer(wrapper.optimizer, given, steps)
        return
    for name, part in wrapper.items():
        need(name in given, f'there is no state of the optimizer {name!r}')
        check_optimizers(part, given[name], steps)


def _check_optimizer(optimizer: torch.optim.Optimizer, given: Any,
                     steps: int) -> None:
    """Compare a saved state with what the optimizer keeps of its weights."""
    groups, state = given.get('param_groups'), given.get('state')
    need(
        isinstance(groups, list) and isinstance(state, Mapping),
        'the optimizer state has no param_groups or no state')
    own = optimizer.param_groups
    need(
        len(groups) == len(own), f'the optimizer state has {len(groups)} '
        f'groups of weights instead of {len(own)}')
    parameters: Dict[Any, Tensor] = {}
    for index, (group, mine) in enumerate(zip(groups, own)):
        keys = group.get('params') if isinstance(group, Mapping) else None
        need(
            isinstance(keys, list) and len(keys) == len(mine['params']),
            f'group {index} of the optimizer state is not of '
            f'{len(mine["params"])} weights')
        assert keys is not None
        for name in ('lr', 'initial_lr', 'weight_decay'):
            if name in mine:
                need(
                    is_finite(group.get(name)),
                    f'{name} of group {index} of the optimizer state must be '
                    f'a number, got {group.get(name)!r}')
        parameters.update(zip(keys, mine['params']))
    need(
        set(state) <= set(parameters),
        'the optimizer state is of other weights')
    layouts = _layouts(optimizer, parameters.values())
    need(
        bool(state) or not steps or not any(layouts.values()),
        'the optimizer state is empty')
    for key, moments in state.items():
        _check_moments(f'optimizer.state[{key}]', moments,
                       layouts.get(parameters[key].ndim, {}),
                       parameters[key].shape)


def _layouts(
        optimizer: torch.optim.Optimizer, weights: Iterable[Tensor]
) -> Dict[int, Dict[str, Optional[torch.Size]]]:
    """What the optimizer keeps of a weight, by its dimensions.

    It is seen by a step of the same optimizer on small weights.

    Returns:
        dict[int, dict]: By the dimensions the names of what is kept, with
        its shape, or None for that of the weights. Empty for an optimizer
        that does not work in this way.
    """
    found = {}
    for ndim, device in {w.ndim: w.device for w in weights}.items():
        weight = torch.zeros(
            (3, 5, 7, 2, 4, 6)[:ndim], device=device, requires_grad=True)
        weight.grad = torch.zeros_like(weight)
        twin = copy.copy(optimizer)
        twin.state = defaultdict(dict)
        twin.param_groups = [{**optimizer.param_groups[0], 'params': [weight]}]
        try:
            # A schedule counts the steps of the optimizer itself.
            type(optimizer).step(twin)
        except Exception:  # another optimizer may want anything
            return {}
        found[ndim] = {
            name: None if value.shape == weight.shape and ndim else value.shape
            for name, value in twin.state[weight].items()
            if isinstance(value, Tensor)
        }
    return found


def _check_moments(where: str, moments: Any,
                   layout: Mapping[str, Optional[torch.Size]],
                   shape: torch.Size) -> None:
    """Check what an optimizer keeps of one weight."""
    need(isinstance(moments, Mapping), f'{where} is not a dict')
    missing = [name for name in layout if name not in moments]
    need(not missing, f'{where} has no {", ".join(missing)}')
    tensors = {k: v for k, v in moments.items() if isinstance(v, Tensor)}
    for name, wanted in layout.items():
        wanted = shape if wanted is None else wanted
        if name not in tensors:
            # Of a kind that is counted by a number, in older files.
            need(wanted == () and is_finite(moments[name]),
                 f'{where}.{name} must be a tensor of shape {tuple(wanted)}')
        else:
            need(
                tensors[name].shape == wanted,
                f'{where}.{name} has the shape {tuple(tensors[name].shape)} '
                f'instead of {tuple(wanted)}')
    try:
        check_weights({f'{where}.{k}': v for k, v in tensors.items()})
    except ValueError as error:
        raise InputError(str(error)) from error


def is_finite(value: Any) -> bool:
    """Whether something is a finite number, or a tensor of one.

    Args:
        value (Any): Anything.
    """
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    return isinstance(value, (int, float)) and math.isfinite(value)
