# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""ImageNet weights of torchvision or timm in the feature branch."""
import os
import re
from typing import Any, Dict, List, Mapping, Tuple, Union

import torch
from torch import Tensor, nn
from torchvision import models

from ..errors import first_few
from ..io.checkpoint_file import (StateDict, check_weights, in_words, misfits,
                                  read_checkpoint)
from ..io.safetensors_file import ENDING, read_safetensors
from .feature_branch.torchvision_nets import torchvision_shapes
from .segments import StagedTrunk

__all__ = [
    'check_in_torchvision', 'load_branch_weights', 'parameter_groups',
    'read_state_dict', 'torchvision_names'
]

# The buffer that counts batches changes no output and may be missing.
_COUNTER = ('num_batches_tracked', )
# timm's names of RegNet-Y -> torchvision's; its ResNets have the same names.
_TIMM_REGNET: Tuple[Tuple[str, str], ...] = (
    (r'^stem\.conv\.', 'stem.0.'),
    (r'^stem\.bn\.', 'stem.1.'),
    (r'\.downsample\.conv\.', '.proj.0.'),
    (r'\.downsample\.bn\.', '.proj.1.'),
    (r'\.conv1\.conv\.', '.f.a.0.'),
    (r'\.conv1\.bn\.', '.f.a.1.'),
    (r'\.conv2\.conv\.', '.f.b.0.'),
    (r'\.conv2\.bn\.', '.f.b.1.'),
    (r'\.se\.', '.f.se.'),
    (r'\.conv3\.conv\.', '.f.c.0.'),
    (r'\.conv3\.bn\.', '.f.c.1.'),
)


def load_branch_weights(
        trunk: StagedTrunk, source: Union[str, os.PathLike,
                                          Mapping[str, Tensor]]) -> str:
    """Load weights of the same network into the feature branch, all or none.

    Args:
        trunk (StagedTrunk): A network that torchvision has, too.
        source (str | PathLike | Mapping): A file of torchvision or timm
            (``.pth`` or ``.safetensors``), what such a file holds, or a name
            that is fetched: 'IMAGENET1K_V1', 'IMAGENET1K_V2' or 'DEFAULT' of
            torchvision, or 'timm.' and the name of a pretrained model of
            timm, such as 'timm.regnety_008.pycls_in1k'.

    Returns:
        str: How much was loaded, and what of the source was not needed, such
        as its classifier.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the network has no other of torchvision, or an entry is
            missing or has another shape; nothing is loaded then.
    """
    names = torchvision_names(trunk)
    title = 'the given weights' if isinstance(source, Mapping) else \
        repr(os.fspath(source))
    given = read_branch_source(trunk, source)
    own = _branch_entries(trunk)
    wanted = dict(zip(names, own.values()))
    found = misfits(wanted, given, _COUNTER)
    unused = found.pop('unexpected', [])
    if found:
        raise ValueError(
            f'{title} does not hold the weights of {trunk.torchvision} by the '
            f'names of torchvision or timm; {in_words(found)}')
    places = dict(zip(own, names))
    with torch.no_grad():
        for name, place in places.items():
            if place in given:
                own[name].copy_(given[place])
    text = f'feature branch: {len(own)} of {len(own)} entries are those of ' \
           f'{title}'
    return text + (f'; not needed: {first_few(unused, 3, str)}'
                   if unused else '')


def check_in_torchvision(trunk: StagedTrunk) -> None:
    """Refuse a branch for which no published weights can be had.

    Raises:
        ValueError: If torchvision has no such network.
    """
    if trunk.torchvision is None:
        raise ValueError(
            'backbone_weights are for feature branches that torchvision has '
            'under a name and in this width (torchvision.NAME, regnety-*, '
            'resnet18, resnet34, resnet50, mobilenetv3-large): load others '
            'into the backbone before it is cut')


def torchvision_names(trunk: StagedTrunk) -> List[str]:
    """torchvision's names of the branch's entries, in the branch's order.

    Raises:
        ValueError: If torchvision has no such network.
    """
    check_in_torchvision(trunk)
    return list(torchvision_shapes(str(trunk.torchvision)))


def _branch_entries(trunk: StagedTrunk) -> Dict[str, Tensor]:
    """The entries of stem and stages, which share their memory."""
    return {
        f'{number}.{name}': value
        for number, part in enumerate(trunk.branch_modules())
        for name, value in part.state_dict().items()
    }


def read_branch_source(trunk: StagedTrunk, source: Any) -> StateDict:
    """Read or fetch weights, by torchvision's names; see
    :func:`load_branch_weights`."""
    if isinstance(source, Mapping):
        weights = dict(source)
    else:
        text = os.fspath(source)
        if os.path.exists(text) or '/' in text or os.sep in text or \
                text.endswith((ENDING, '.pth', '.pt', '.bin')):
            weights = read_state_dict(text)
        else:
            weights = _fetch(str(trunk.torchvision), text)
    if any(re.match(r's\d\.b\d+\.', name) for name in weights):
        weights = {_from_timm(name): v for name, v in weights.items()}
    elif 'conv_stem.weight' in weights:
        raise ValueError(
            "timm's MobileNet has batch norms of another epsilon than "
            "torchvision's, whose layers these are: take torchvision's "
            "weights, or timm's network by arch=dict(type="
            "'mmpretrain.TIMMBackbone', ...)")
    return check_weights(weights)


def read_state_dict(path: str) -> Dict[str, Any]:
    """The state dict in a file of safetensors or PyTorch.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read safely, or holds none.
    """
    path = os.path.expanduser(path)
    if path.endswith(ENDING):
        return read_safetensors(path)
    content = read_checkpoint(path)
    for key in ('state_dict', 'model'):
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    return dict(content)


def _from_timm(name: str) -> str:
    """torchvision's name of an entry of timm's RegNet-Y."""
    block = re.match(r's(\d)\.b(\d+)(?=\.)', name)
    if block:
        stage, number = block.groups()
        name = f'trunk_output.block{stage}.block{stage}-{int(number) - 1}' \
               f'{name[block.end():]}'
    for pattern, new in _TIMM_REGNET:
        name = re.sub(pattern, new, name)
    return name


def _fetch(network: str, name: str) -> Dict[str, Tensor]:
    """Published weights by their name, from torchvision or timm."""
    try:
        if name.startswith('timm.'):
            import timm
            return timm.create_model(
                name.removeprefix('timm.'), pretrained=True).state_dict()
        return models.get_model_weights(network)[name].get_state_dict(
            progress=True, check_hash=True)
    except KeyError:
        known = [each.name for each in models.get_model_weights(network)]
        raise ValueError(
            f'torchvision has no weights {name!r} of {network}: give one of '
            f"{', '.join([*known, 'DEFAULT'])}, 'timm.NAME' or a file"
        ) from None
    except Exception as error:  # of the network, or of a library
        raise ValueError(f'cannot fetch the weights {name!r} of {network} '
                         f'({type(error).__name__}: {error}): give a file '
                         f'that you have fetched') from error


def parameter_groups(network: nn.Module,
                     lr: float,
                     branch_factor: float = 0.1) -> List[Dict[str, Any]]:
    """Two groups for an optimizer: the feature branch, and the rest.

    Args:
        network (nn.Module): With ``exit_parts``; what needs no gradient, such
            as a frozen branch, is left out.
        lr (float): Learning rate of what is new.
        branch_factor (float): That of the branch is so many times ``lr``.
            Defaults to 0.1.

    Example:
        >>> from mmdynperceiver.core import DynPerceiver
        >>> net = DynPerceiver('resnet18', width=0.25, num_latents=16)
        >>> groups = parameter_groups(net, lr=1e-3)
        >>> optimizer = torch.optim.AdamW(groups)
        >>> [group['lr'] for group in groups]
        [0.0001, 0.001]
    """
    trunk = network.exit_parts()[0]  # type: ignore[operator]
    branch = [
        parameter for part in trunk.branch_modules()
        for parameter in part.parameters()
    ]
    of_branch = set(map(id, branch))
    rest = [p for p in network.parameters() if id(p) not in of_branch]
    return [
        dict(params=[p for p in params if p.requires_grad], lr=rate)
        for params, rate in ((branch, lr * branch_factor), (rest, lr))
        if any(p.requires_grad for p in params)
    ]
