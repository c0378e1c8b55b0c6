# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Any stage-wise network of torchvision as a feature branch, by its name."""
import difflib
import fnmatch
import functools
from collections import OrderedDict
from typing import List, Mapping, Tuple

import torch
from torch import nn
from torchvision import models

from .base import FeatureBranch
from .split import split_backbone

__all__ = [
    'PREFIX', 'torchvision_archs', 'torchvision_body', 'torchvision_branch',
    'torchvision_shapes'
]

PREFIX = 'torchvision.'
# The families that can be cut into a stem and four stages.
_FAMILIES = ('convnext_*', 'densenet*', 'efficientnet_*', 'mnasnet*',
             'mobilenet_*', 'regnet_*', 'resne[tx]*', 'swin_*', 'vgg*',
             'wide_resnet*')


def torchvision_archs() -> List[str]:
    """Names of torchvision's networks that can be a feature branch."""
    return [
        PREFIX + name for name in models.list_models(module=models) if any(
            fnmatch.fnmatch(name, family) for family in _FAMILIES)
    ]


def torchvision_body(name: str) -> nn.Sequential:
    """A network of torchvision without its classifier; its parts keep their
    names.

    Args:
        name (str): torchvision's name, such as 'mobilenet_v2'.

    Raises:
        ValueError: If it is none of :func:`torchvision_archs`.
    """
    known = [arch.removeprefix(PREFIX) for arch in torchvision_archs()]
    if name not in known:
        close = difflib.get_close_matches(name, known, 3)
        meant = f', such as {", ".join(close)}' if close else ''
        raise ValueError(
            f'torchvision has no network {name!r} that can be cut into '
            f'stages{meant}; list_models({PREFIX + "*"!r}) lists those it has')
    children = dict(models.get_model(name, weights=None).named_children())
    if 'features' in children:
        return nn.Sequential(OrderedDict(features=children['features']))
    ends = ('avgpool', 'classifier')
    names = list(children)
    last = min(names.index(end) for end in ends if end in children)
    return nn.Sequential(
        OrderedDict((part, children[part]) for part in names[:last]))


@functools.lru_cache(maxsize=None)
def torchvision_shapes(name: str) -> Mapping[str, Tuple[int, ...]]:
    """Shapes of all entries of :func:`torchvision_body`, in its order."""
    # Its random numbers are nobody else's.
    with torch.random.fork_rng(devices=[]):
        body = torchvision_body(name)
    return {n: tuple(value.shape) for n, value in body.state_dict().items()}


def torchvision_branch(arch: str) -> FeatureBranch:
    """Build the branch of 'torchvision.mobilenet_v2' and the like.

    Raises:
        ValueError: If there is no such network, or it cannot be cut.
    """
    name = arch.removeprefix(PREFIX)
    branch = split_backbone(torchvision_body(name))
    branch.torchvision = name
    return branch
