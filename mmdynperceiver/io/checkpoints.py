# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Checkpoints that do not fit are refused, not loaded in part."""
import logging
import os.path as osp
from typing import Any, Mapping

import mmengine.runner.checkpoint  # noqa: F401  (its files load safely)
from mmengine.logging import print_log
from torch import nn

from ..errors import InputError
from .checkpoint_file import (OPTIONAL, atomic_save, check_weights,
                              conversions, dtype_fault, in_words, misfits,
                              read_checkpoint)

__all__ = [
    'in_words', 'load_matching', 'load_strict', 'misfits', 'read_weights',
    'atomic_save'
]


def read_weights(path: str) -> Mapping[str, Any]:
    """Read the state dict of a checkpoint with safe loading.

    Args:
        path (str): A local file.

    Returns:
        Mapping: Names to dense tensors of finite numbers, without the prefix
        that distributed training leaves.

    Raises:
        InputError: If there is no such file, it cannot be read, or an entry
            is damaged.
    """
    try:
        content = read_checkpoint(osp.expanduser(path))
    except (OSError, ValueError) as error:
        raise InputError(str(error)) from error
    weights = content.get('state_dict', content)
    if not isinstance(weights, Mapping):
        raise InputError(f'{path!r} holds no state dict')
    if weights is content and isinstance(content.get('model'), Mapping):
        raise InputError(
            f'{path!r} is a file of the authors: '
            f'tools/model_converters/convert_official.py makes a checkpoint '
            f'of it')
    try:
        return check_weights(weights)
    except ValueError as error:
        raise InputError(f'{path!r}: {error}') from error


def load_strict(model: nn.Module, weights: Mapping[str, Any],
                source: str) -> None:
    """Load weights that must fit in full.

    mmengine warns about what does not fit and goes on with random values.
    Another precision is converted, and the log says so.

    Args:
        model (nn.Module): The model.
        weights (Mapping[str, Any]): A state dict.
        source (str): Where it comes from, for the message.

    Raises:
        InputError: With the first names that do not fit.
    """
    own = model.state_dict()
    problems = misfits(own, weights)
    # The model may know better what other shapes mean.
    if set(problems) <= {'missing', 'unexpected', 'wrong shape'}:
        try:
            model.load_state_dict(weights, strict=False)
        except ValueError as error:
            raise InputError(f'{source!r} does not fit: {error}') from error
        except RuntimeError as error:
            problems = problems or {'not loaded': [str(error)]}
    if problems:
        raise InputError(f'{source!r} does not fit the model of the config; '
                         f'{in_words(problems)}')
    converted = conversions(weights, own)
    if converted:
        print_log(
            f'the weights of {source!r} are converted {converted}',
            logger='current',
            level=logging.WARNING)


def load_matching(module: nn.Module, path: str, prefix: str = '') -> str:
    """Load what fits of a checkpoint into a part of a model, and say what.

    Args:
        module (nn.Module): The part, such as a backbone.
        path (str): A local file.
        prefix (str): Stands before the part's names in the checkpoint, such
            as 'backbone.'. Defaults to ''.

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
        and dtype_fault(value, own[name]) is None
    }
    if not fits:
        known = sorted({name.partition('.')[0] for name in content})
        raise InputError(
            f'nothing of {path!r} fits {type(module).__name__} (prefix '
            f'{prefix!r}): its names begin with {", ".join(known[:5])}, and '
            f'arch, width and num_latents must be those of the checkpoint')
    module.load_state_dict(fits, strict=False)
    converted = conversions(fits, own)
    other = {
        'other shape or type, so they keep their initial values':
        [name for name in given if name in own and name not in fits],
        'not in the file, so they keep their initial values': [
            name for name in own
            if name not in given and not name.endswith(OPTIONAL)
        ],
        'in the file and not in the model':
        [name for name in given if name not in own],
        f'in the file without the prefix {prefix!r}, such as classifiers of '
        'other classes':
        [name for name in content if not name.startswith(prefix)]
    }
    text = f'{type(module).__name__}: {len(fits)} of {len(own)} entries are ' \
        f'loaded from {path!r}' + (f', converted {converted}'
                                   if converted else '')
    rest = {f'\n  {title}': names for title, names in other.items() if names}
    return text + in_words(rest, '')
