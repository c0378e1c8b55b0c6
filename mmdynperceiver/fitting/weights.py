# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Which network a file of weights is of."""
from typing import Mapping, Tuple

from ..core.feature_branch.torchvision_nets import PREFIX, torchvision_shapes
from ..core.pretrained_branch import read_state_dict
from ..errors import InputError, first_few, input_errors

__all__ = ['FAMILIES', 'arch_of_weights']

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


def _holds(given: Mapping[str, Tuple[int, ...]],
           wanted: Mapping[str, Tuple[int, ...]]) -> bool:
    """Whether all that is wanted is there, and nothing but a classifier."""
    others = given.keys() - wanted.keys()
    return all(given.get(name) == shape for name, shape in wanted.items()) \
        and all(name.startswith(('classifier.', 'fc.')) for name in others)
