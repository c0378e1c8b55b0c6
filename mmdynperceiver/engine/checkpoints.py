# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Checkpoints that do not fit are refused, not loaded in part."""
import os
import os.path as osp
from typing import Any, List, Mapping, Union

import mmengine.runner.checkpoint  # noqa: F401  (its files load safely)
import torch
from torch import nn

from ..core import read_checkpoint
from ..core.files import replacing
from .errors import InputError

__all__ = ['load_part', 'load_whole', 'read_weights', 'save_whole']


def read_weights(path: str) -> Mapping[str, Any]:
    """Read the state dict of a checkpoint with safe loading.

    Args:
        path (str): A local file.

    Returns:
        Mapping: Names to tensors, without the prefix that distributed
        training leaves.

    Raises:
        InputError: If there is no such file, or it cannot be read.
    """
    try:
        content = read_checkpoint(osp.expanduser(path))
    except (OSError, ValueError) as error:
        raise InputError(str(error)) from error
    weights = content.get('state_dict', content)
    if not isinstance(weights, Mapping):
        raise InputError(f'{path!r} holds no state dict')
    return {name.removeprefix('module.'): weights[name] for name in weights}


def load_whole(model: nn.Module, weights: Mapping[str, Any],
               source: str) -> None:
    """Load weights that must fit in full.

    mmengine warns about what does not fit and goes on with random values.

    Args:
        model (nn.Module): The model.
        weights (Mapping[str, Any]): A state dict.
        source (str): Where it comes from, for the message.

    Raises:
        InputError: With the first names that do not fit.
    """
    problems: List[str] = []
    own = model.state_dict()
    shapes = [
        f'{name} is {tuple(weights[name].shape)} instead of '
        f'{tuple(value.shape)}' for name, value in own.items()
        if name in weights and weights[name].shape != value.shape
        and not _may_lack(name)
    ]
    try:
        if not shapes:
            missing, unexpected = model.load_state_dict(weights, strict=False)
        else:
            missing = [name for name in own if name not in weights]
            unexpected = [name for name in weights if name not in own]
            # The model may know better what the shapes mean.
            model.load_state_dict(weights, strict=False)
    except ValueError as error:
        raise InputError(f'{source!r} does not fit: {error}') from error
    except RuntimeError:
        pass  # wrong shapes, which are named below
    missing = [name for name in missing if not _may_lack(name)]
    for title, names in (('missing', missing), ('unexpected', unexpected),
                         ('wrong shape', shapes)):
        if names:
            more = f' and {len(names) - 3} more' if len(names) > 3 else ''
            problems.append(f'{title}: {", ".join(names[:3])}{more}')
    if problems:
        raise InputError(f'{source!r} does not fit the model of the config; '
                         f'{"; ".join(problems)}')


def load_part(module: nn.Module, path: str, prefix: str = '') -> str:
    """Load what fits of a checkpoint into a part of a model, and say what.

    Args:
        module (nn.Module): The part, such as a backbone.
        path (str): A local file.
        prefix (str): Stands before the part's names in the checkpoint, such
            as 'backbone.'. Defaults to ''.

    Returns:
        str: What was loaded, and what was not.

    Raises:
        InputError: If the file cannot be read, or nothing in it fits.
    """
    content = read_weights(path)
    given = {
        name[len(prefix):]: value
        for name, value in content.items() if name.startswith(prefix)
    }
    own = module.state_dict()
    fits = {
        name: value
        for name, value in given.items()
        if name in own and value.shape == own[name].shape
    }
    if not fits:
        known = sorted({name.partition('.')[0] for name in content})
        raise InputError(
            f'nothing of {path!r} fits {type(module).__name__} (prefix '
            f'{prefix!r}): its names begin with {", ".join(known[:5])}, and '
            f'arch, width and num_latents must be those of the checkpoint')
    module.load_state_dict(fits, strict=False)
    lines = [
        f'{type(module).__name__}: {len(fits)} of {len(own)} entries are '
        f'loaded from {path!r}'
    ]
    other = [name for name in given if name in own and name not in fits]
    left = [name for name in own if name not in given and not _may_lack(name)]
    unused = [name for name in given if name not in own]
    rest = [name for name in content if not name.startswith(prefix)]
    for title, names in (('other shape, so they keep their initial values',
                          other), ('not in the file, so they keep their '
                                   'initial values', left),
                         ('in the file and not in the model', unused),
                         (f'in the file without the prefix {prefix!r}, such '
                          f'as classifiers of other classes', rest)):
        if names:
            more = f' and {len(names) - 3} more' if len(names) > 3 else ''
            lines.append(f'  {title}: {", ".join(names[:3])}{more}')
    return '\n'.join(lines)


def save_whole(content: Any, path: Union[str, os.PathLike]) -> None:
    """Write what ``torch.load`` reads, whole or not at all.

    Args:
        content (Any): Tensors in dicts and lists.
        path (str | PathLike): The file; its folder must exist.

    Raises:
        OSError: If it cannot be written.
    """
    with replacing(path) as temporary:
        torch.save(content, temporary)


def _may_lack(name: str) -> bool:
    """Entries without which weights are still whole, and of any shape."""
    return name.endswith(('num_batches_tracked', '_extra_state'))
