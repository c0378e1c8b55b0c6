# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What the metafile beside a config says of it."""
import os
from typing import Any, Dict, Tuple, Union

from mmengine.fileio import load

from .errors import InputError

__all__ = ['metafile_top1']


def metafile_top1(config: Union[str, os.PathLike]) -> Tuple[float, ...]:
    """Top-1 accuracy of each exit, in percent.

    Args:
        config (str | PathLike): A config file with a ``metafile.yml`` in its
            folder.

    Returns:
        tuple[float]: Shallow to deep; of a config without exits, one.

    Raises:
        InputError: If there is no metafile or no accuracy in it.
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
