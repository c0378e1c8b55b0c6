# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Which network given weights are of."""
import os
from typing import Any, Dict, Mapping, Tuple

import torch

from ..core.feature_branch.torchvision_nets import PREFIX, torchvision_shapes
from ..core.pretrained_branch import read_state_dict
from ..core.trunk import TrunkOptions
from ..errors import InputError, first_few, input_errors
from ..io.model_folder import find_folder, read_folder

__all__ = ['FAMILIES', 'arch_of_weights', 'take_over']

# Those that are looked for, small ones first.
FAMILIES = ('mobilenet_v2', 'mobilenet_v3_small', 'mobilenet_v3_large',
            'efficientnet_b0', 'regnet_y_400mf', 'regnet_y_800mf',
            'regnet_y_1_6gf', 'regnet_y_3_2gf', 'resnet18', 'resnet34',
            'resnet50', 'efficientnet_b1', 'convnext_tiny')


def arch_of_weights(path: str) -> str:
    """The ``arch`` of the feature branch that a file holds the weights of.

    Args:
        path (str): A file of torchvision's.

    Raises:
        InputError: If it cannot be read, or is of no network that is known.
    """
    with input_errors(OSError, ValueError, ImportError):
        given = read_state_dict(path)
    shapes = {name: tuple(value.shape) for name, value in given.items()}
    for name in FAMILIES:
        if _holds(shapes, torchvision_shapes(name)):
            return PREFIX + name
    raise InputError(f'{path!r} is of none of these networks of torchvision: '
                     f'{", ".join(FAMILIES)}; its entries begin with '
                     f'{first_few(sorted(shapes), 3)}')


def take_over(source: str, path: str) -> Tuple[Dict[str, Any], int]:
    """Take the network of a saved folder, but its classifiers.

    Args:
        source (str): As of :func:`~mmdynperceiver.io.model_folder.find_folder`
            .
        path (str): File for its weights, as a config's ``init_cfg`` takes
            them.

    Returns:
        tuple[dict, int]: Arguments of ``DynPerceiverBackbone``, and the size
        of its images, 0 if it is not known.

    Raises:
        InputError: If it cannot be read, or is no ``DynPerceiver``.
    """
    with input_errors(OSError, ValueError, ImportError):
        content, weights = read_folder(find_folder(source))
    if content.get('kind') != 'network':
        raise InputError(f'{source!r} is the model of a config and no network '
                         f'by a name: go on training it by `train`, with '
                         f'load_from in the config')
    settings = {
        name: value
        for name, value in content['model'].items()
        if name in ('arch', *TrunkOptions.__annotations__)
    }
    trunk = {
        f'backbone.net.{name.removeprefix("trunk.")}': value
        for name, value in weights.items() if name.startswith('trunk.')
    }
    os.makedirs(os.path.dirname(path), exist_ok=True)
    torch.save(dict(state_dict=trunk), path)
    start = dict(type='Pretrained', checkpoint=path, prefix='backbone.')
    size = (content.get('preprocessing') or {}).get('size')
    return dict(settings, init_cfg=start), max(size) if size else 0


def _holds(given: Mapping[str, Tuple[int, ...]],
           wanted: Mapping[str, Tuple[int, ...]]) -> bool:
    """Whether all that is wanted is there, and nothing but a classifier."""
    others = given.keys() - wanted.keys()
    return all(given.get(name) == shape for name, shape in wanted.items()) \
        and all(name.startswith(('classifier.', 'fc.')) for name in others)
