# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Models by name, as in timm."""
import difflib
import fnmatch
import os
import re
from typing import (TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Tuple,
                    Union)

from torch import Tensor

from ..errors import first_few
from ..io.checkpoint_file import (check_weights, in_words, misfits,
                                  read_checkpoint)
from ..io.model_folder import WEIGHTS, find_folder, read_folder
from ..io.safetensors_file import ENDING, read_safetensors
from .dyn_perceiver import DynPerceiver
from .feature_branch import available_archs, torchvision_archs
from .feature_branch.torchvision_nets import PREFIX
from .official import load_official
from .pretrained_branch import load_branch_weights
from .trunk import TrunkOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ['create_model', 'list_models', 'network_weights', 'own_names']

# Settings of the models whose names are no ``arch``. A number behind -w is
# the width factor, its point behind the first digit.
_WIDTHS = {
    'mobilenetv3-large': ('075', '100', '125', '150'),
    'resnet50': ('0375', '050', '0625', '075')
}
_ABLATIONS: Dict[str, Dict[str, Any]] = {
    'feature-exits': dict(exits='feature'),
    'no-early-exit': dict(exits='last'),
    'vanilla':
    dict(x2z=False, z2x=False, dw_conv=False, last_z2x=False, fkt=False),
    **{
        f'no-{name.replace("_", "-")}': {
            name: False
        }
        for name in ('dw_conv', 'fkt', 'last_z2x', 'token_mixer', 'x2z', 'z2x')
    }
}
_LATENCY_FIRST: Dict[str, Dict[str, Any]] = {
    'mobilenetv2':
    dict(arch='torchvision.mobilenet_v2', dropout=0.2),
    'mobilenetv3-large-w075':
    dict(arch='mobilenetv3-large', width=0.75),
    'mobilenetv3-large-w100':
    dict(arch='mobilenetv3-large'),
    'regnety-800mf':
    dict(arch='regnety-800mf', latent_channels=256, num_heads=(4, 4, 4, 4)),
}
MODELS: Dict[str, Dict[str, Any]] = {
    **{
        arch: dict(arch=arch)
        for arch in available_archs()
    },
    **{
        f'{arch}-w{digits}':
        dict(arch=arch, width=int(digits) / 10**(len(digits) - 1))
        for arch, widths in _WIDTHS.items()
        for digits in widths
    },
    **{
        f'regnety-400mf-{name}': dict(arch='regnety-400mf', **settings)
        for name, settings in _ABLATIONS.items()
    },
    'resnet18-cifar':
    dict(
        arch=dict(block='basic', depths=(2, 2, 2, 2), stem_stride=1),
        num_latents=64,
        drop_path_rate=0.1),
    'resnet22-w025':
    dict(
        arch=dict(block='basic', depths=(1, 1, 4, 4)),
        width=0.25,
        num_latents=8,
        depth_factor=(0, 0, 0, 2 / 3),
        drop_path_rate=0.),
    **{
        f'latency-first-{name}': {
            **settings, 'branch': 'latency-first'
        }
        for name, settings in _LATENCY_FIRST.items()
    },
}
# What a host's model has only while it is trained.
_TRAINING = ('branch_classifier.', 'head.sample_weights.',
             'cls_head.sample_weights.')
# The parts of the network in a host's model.
_PLACES: Tuple[Tuple[str, str],
               ...] = (('backbone.net.', 'trunk.'), ('head.exits.', 'exits.'),
                       ('cls_head.exits.', 'exits.'))


def list_models(filter: Union[str, List[str]] = '*') -> List[str]:
    """Names that :func:`create_model` knows, sorted.

    Args:
        filter (str | list[str]): Patterns such as 'resnet*' or '*-w0*'.
            Defaults to '*'. torchvision's networks are listed where a pattern
            begins with 'torchvision.'.

    Example:
        >>> list_models('resnet50*')
        ['resnet50', 'resnet50-w0375', 'resnet50-w050', 'resnet50-w0625', \
'resnet50-w075']
    """
    patterns = [filter] if isinstance(filter, str) else list(filter)
    names = list(MODELS)
    if any(pattern.startswith(PREFIX) for pattern in patterns):
        names += torchvision_archs()
    return sorted(
        name for name in names if any(
            fnmatch.fnmatch(name, p) for p in patterns))


def model_settings(name: str) -> Dict[str, Any]:
    """Arguments of ``DynPerceiver`` for a name, or a config's file name such
    as 'dyn-perceiver_regnety-800mf_8xb128_in1k'.

    Raises:
        ValueError: If there is no such model.
    """
    stem = re.fullmatch(
        r'(?:dyn-perceiver_|(latency-first)_)([^_]+)_.*_in1k(?:\.py)?', name)
    short = '-'.join(filter(None, stem.groups())) if stem else name
    if short.startswith(PREFIX):
        return dict(arch=short)
    if short not in MODELS:
        close = difflib.get_close_matches(short, MODELS, 3)
        meant = f'such as {", ".join(close)}; ' if close else ''
        raise ValueError(f'there is no model {name!r}: {meant}list_models() '
                         f'lists them all')
    return dict(MODELS[short])


def create_model(name: str,
                 pretrained: Union[str, os.PathLike, None] = None,
                 num_classes: Optional[int] = None,
                 backbone_weights: Union[str, os.PathLike, None] = None,
                 freeze_backbone: bool = False,
                 fkt: Optional[bool] = None,
                 dropout: Optional[float] = None,
                 **options: 'Unpack[TrunkOptions]') -> DynPerceiver:
    """Create a network by its name, in eval mode.

    Args:
        name (str): One of :func:`list_models`, 'torchvision.' and the name of
            one of its networks, or the name of a config of ImageNet.
        pretrained (str | PathLike, optional): Weights of the whole network, as
            of :func:`network_weights`; all must fit but the classifiers of
            other classes. Defaults to None.
        num_classes (int, optional): Defaults to None: that of the weights,
            else 1000. With another number than the weights have, the
            classifiers that do not fit are new and thresholds are dropped.
        backbone_weights (str | PathLike, optional): As of
            :func:`~mmdynperceiver.core.load_branch_weights`. Defaults to None.
        freeze_backbone (bool): Keep the feature branch as it is in training
            (see :func:`~mmdynperceiver.core.parameter_groups` for a learning
            rate of its own). Defaults to False.
        fkt, dropout: As the options, of the classifiers.
        **options: Of :class:`~mmdynperceiver.core.DynPerceiver`, instead of
            what the name says.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a name is unknown, an option or weights do not fit.

    Example:
        >>> create_model('resnet18', width=0.25, num_classes=7).num_classes
        7
    """
    heads = dict(fkt=fkt, dropout=dropout)
    settings = {**model_settings(name), **options}
    settings.update({k: v for k, v in heads.items() if v is not None})
    weights = None if pretrained is None else network_weights(pretrained)
    if num_classes is None:
        num_classes = 1000 if weights is None else _num_classes(weights)
    net = DynPerceiver(**settings, num_classes=num_classes)
    if weights is not None:
        _load(net, weights, os.fspath(pretrained or ''))
    if backbone_weights is not None:
        load_branch_weights(net.trunk, backbone_weights)
    if freeze_backbone:
        net.trunk.freeze_branch()
    return net.eval()


def network_weights(source: Union[str, os.PathLike]) -> Dict[str, Tensor]:
    """Weights of a whole network by the names of ``DynPerceiver``.

    Args:
        source (str | PathLike): A checkpoint (of this package or of the
            authors), a ``.safetensors`` file, a saved folder, or the name of
            a repository on the Hub or of released weights.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read safely, or holds something else.
    """
    path = os.path.expanduser(os.fspath(source))
    if path.endswith(ENDING):
        weights: Any = read_safetensors(path)
    elif os.path.isfile(path) or path.endswith(('.pth', '.pt')):
        weights = read_checkpoint(path)
        if isinstance(weights.get('model'), Mapping) or 'latent' in weights:
            return load_official(weights).state_dict()
        weights = weights.get('state_dict', weights)
    else:
        folder = find_folder(path)
        weights = read_folder(folder)[1]
        path = os.path.join(folder, WEIGHTS)
    renamed = own_names(check_weights(weights))
    if not any(key.startswith('trunk.') for key in renamed):
        raise ValueError(
            f'{path!r} holds no Dyn-Perceiver: its names begin with '
            f'{first_few(sorted({k.partition(".")[0] for k in renamed}))}')
    return renamed


def own_names(weights: Mapping[str, Tensor]) -> Dict[str, Tensor]:
    """A state dict of a host's model, or of a network, by the names that the
    network's entries have in ``DynPerceiver``; those that only its training
    needs are left out."""
    renamed = {}
    for key, value in weights.items():
        if key.startswith(_TRAINING):
            continue
        for place, own in _PLACES:
            if key.startswith(place):
                key = own + key[len(place):]
                break
        renamed[key] = value
    return renamed


def _num_classes(weights: Dict[str, Tensor]) -> int:
    """How many classes the first exit of a state dict tells apart."""
    names = [
        name for name in weights
        if name.startswith('exits.classifiers.0.') and name.endswith('.weight')
    ]
    if not names:
        raise ValueError('the pretrained weights have no classifiers: say '
                         'num_classes')
    return len(weights[names[-1]])


def _load(net: DynPerceiver, weights: Dict[str, Tensor], title: str) -> None:
    """Load everything, but classifiers of other classes."""
    own = net.state_dict()
    if _num_classes(weights) != net.num_classes:
        weights = {
            name: value
            for name, value in weights.items()
            if not name.startswith('policy.') and not (name.startswith(
                'exits.') and name in own and own[name].shape != value.shape)
        }
        fresh = [name for name in own if name.startswith('exits.')]
        weights.update({n: own[n] for n in fresh if n not in weights})
    found = misfits(own, weights)
    if found:
        raise ValueError(f'{title!r} does not hold the weights of this '
                         f'network; {in_words(found)}')
    net.load_state_dict(weights, strict=False)
