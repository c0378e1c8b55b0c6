# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Accuracies that others measured, or an earlier report."""
import os
from typing import Any, Dict, List, Mapping, Sequence, Tuple, Union

import torchvision
from mmengine.fileio import load

from ..errors import InputError, input_errors

__all__ = ['early_exit_curves', 'metafile_top1', 'torchvision_top1']


def metafile_top1(config: Union[str, os.PathLike]) -> Tuple[float, ...]:
    """Top-1 accuracy of each exit, in percent, shallow to deep.

    Raises:
        InputError: If beside the config file there is no ``metafile.yml``,
            or no accuracy in it.
    """
    folder, name = os.path.split(os.path.abspath(config))
    path = os.path.join(folder, 'metafile.yml')
    if not os.path.isfile(path):
        raise InputError(f'no metafile.yml with accuracies beside {config!r}')
    for model in load(path)['Models']:
        if os.path.basename(model['Config']) == name and model.get('Results'):
            return _per_exit(model['Results'][0]['Metrics'])
    raise InputError(f'{path!r} tells no accuracy of {name}')


def _per_exit(metrics: Dict[str, Any]) -> Tuple[float, ...]:
    """The accuracies of exits, or the only one."""
    keys = [f'Exit {k} Top 1 Accuracy' for k in range(len(metrics))]
    found = tuple(float(metrics[key]) for key in keys if key in metrics)
    return found or (float(metrics['Top 1 Accuracy']), )


def torchvision_top1(name: str) -> Tuple[float]:
    """Top-1 accuracy on ImageNet-1k of one of torchvision's networks.

    It is that of its plain recipe, not of the later and longer one.

    Raises:
        InputError: If there are no such weights.
    """
    try:
        weights: Any = torchvision.models.get_model_weights(name)
        metrics = weights['IMAGENET1K_V1'].meta['_metrics']
    except (KeyError, ValueError) as error:
        raise InputError(f'torchvision tells no accuracy of {name!r} with '
                         f'the weights IMAGENET1K_V1') from error
    return (metrics['ImageNet-1K']['acc@1'], )


def early_exit_curves(
        given: Sequence[Sequence[str]],
        num_exits: Mapping[str, int]) -> Dict[str, List[Dict[str, Any]]]:
    """Points of leaving early, by the names of networks.

    Each of ``given`` is a name and a file of
    :func:`~mmdynperceiver.report.read_early_exits`.

    Raises:
        InputError: If a name or a file does not fit ``num_exits``.
    """
    from ..report import read_early_exits
    found = {}
    for name, path in given:
        if name not in num_exits:
            raise InputError(f'a curve must be of one of '
                             f'{", ".join(num_exits)}, got {name!r}')
        with input_errors(OSError, ValueError):
            found[name] = read_early_exits(path)
        shares = found[name][0].get('shares')
        if shares is not None and len(shares) != num_exits[name]:
            raise InputError(f'{name} has {num_exits[name]} exits, but '
                             f'{path!r} has shares of {len(shares)}')
    return found
