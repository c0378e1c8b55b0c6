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

from ..errors import InputError, input_errors
from ..io.checkpoint_file import check_weights
from ..io.describe import describe

__all__ = ['check_like', 'check_optimizers', 'is_finite', 'is_like', 'need']

# How a step is computed, not what: may differ from the config.
_FLEXIBLE = ('capturable', 'differentiable', 'foreach', 'fused')


def need(condition: bool, message: str) -> None:
    """Raise an :class:`InputError` if a condition does not hold."""
    if not condition:
        raise InputError(message)


def check_like(where: str, own: Mapping[str, Any], given: Any) -> None:
    """Refuse saved settings that cannot take the place of one's own."""
    need(isinstance(given, Mapping), f'{where} is not a dict')
    for name, value in own.items():
        need(name in given, f'{where}.{name} is missing')
        need(
            is_like(value, given[name]),
            f'{where}.{name} must be like {value!r}, got {given[name]!r}')


def check_optimizers(wrapper: Any, given: Any, steps: int) -> None:
    """Check the saved state of one optimizer, or of several by their names.

    Raises:
        InputError: Naming what is missing or does not fit a training of so
            many steps.
    """
    need(isinstance(given, Mapping), 'the optimizer state is not a dict')
    if isinstance(wrapper, OptimWrapperDict):
        for name, part in wrapper.items():
            need(name in given, f'there is no state of the optimizer {name!r}')
            check_optimizers(part, given[name], steps)
        return
    _check_optimizer(wrapper.optimizer, given, steps)
    # What mixed precision scales the loss by, if it is saved.
    if getattr(wrapper, 'loss_scaler', None) and 'loss_scaler' in given:
        check_like('loss_scaler', wrapper.loss_scaler.state_dict(),
                   given['loss_scaler'])


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
        parameters.update(_check_group(index, group, mine))
    need(
        len(parameters) == sum(len(group['params']) for group in own),
        'the optimizer state has a weight twice')
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


def _check_group(index: int, group: Any,
                 own: Mapping[str, Any]) -> Dict[int, Tensor]:
    """Check the settings of a group; returns its numbers and weights."""
    keys = group.get('params') if isinstance(group, Mapping) else None
    weights = own['params']
    need(
        isinstance(keys, list) and len(keys) == len(weights)
        and all(type(key) is int for key in keys),
        f'group {index} of the optimizer state is not of {len(weights)} '
        f'weights')
    where = f'optimizer.param_groups[{index}]'
    # Switches are added by later versions, and have a default.
    own = {
        name: value
        for name, value in own.items()
        if name != 'params' and value is not None and (
            name in group or not isinstance(value, bool))
    }
    check_like(where, own, group)
    for name, value in own.items():
        need(
            name in _FLEXIBLE or not isinstance(value, bool)
            or group[name] == value,
            f'{where}.{name} is {group[name]!r}, and {value!r} in the config')
    for name in set(_FLEXIBLE) & set(group):
        need(
            isinstance(group[name], (bool, type(None))),
            f'{where}.{name} must be True or False, got {group[name]!r}')
    return dict(zip(keys, weights))


def _layouts(
        optimizer: torch.optim.Optimizer, weights: Iterable[Tensor]
) -> Dict[int, Dict[str, Optional[torch.Size]]]:
    """What the optimizer keeps of a weight, by its dimensions.

    A step of the same optimizer on small weights shows the names, and the
    shape, or None for that of the weights. Empty for an optimizer that does
    not work in this way.
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
    for name, wanted in layout.items():
        value, wanted = moments[name], shape if wanted is None else wanted
        # Steps are counted by a number, in older files.
        need(
            getattr(value, 'shape',
                    () if is_finite(value) else None) == wanted,
            f'{where}.{name} must be a tensor of shape '
            f'{tuple(wanted)}, got {describe(value)}')
        need(name != 'step' or float(value) >= 0, f'{where}.step is {value!r}')
    with input_errors(ValueError):
        check_weights({
            f'{where}.{k}': v
            for k, v in moments.items() if isinstance(v, Tensor)
        })


def is_finite(value: Any) -> bool:
    """Whether something is a finite number, or a tensor of one."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, int):
        return abs(value) < 1 << 63
    return isinstance(value, float) and math.isfinite(value)


def is_like(own: Any, given: Any) -> bool:
    """Whether a saved setting can take the place of one's own.

    It must be of the same kind and length, a finite number, not negative
    where one's own is not, the same text.
    """
    if isinstance(own, bool):
        return isinstance(given, bool)
    if isinstance(own, (int, float, Tensor)):
        return not isinstance(given, bool) and is_finite(given) and (
            bool(given >= 0) or bool(own < 0))
    if isinstance(own, (list, tuple)):
        return isinstance(given,
                          (list, tuple)) and len(own) == len(given) and all(
                              map(is_like, own, given))
    return given == own if isinstance(own, str) else True
