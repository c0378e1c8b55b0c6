# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Published weights as checkpoints of this package's configs."""
import inspect
import os
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

import torch
from mmengine.config import Config
from torch import Tensor, nn

from ..core import DynPerceiver, Trunk, load_official
from ..core.official import infer_variant, published_weights
from ..errors import InputError, input_errors
from ..io.atomic import atomic_file
from ..io.checkpoint_file import read_checkpoint
from ..io.checkpoints import atomic_save, load_strict, read_weights
from ..io.checksums import file_sha256
from ..version import __version__
from .build import build_model

__all__ = [
    'Match', 'Source', 'checkpoint_of', 'find_config', 'model_config',
    'read_source', 'write_verified'
]

# Where the parts of the core network stand in a classifier of a host.
_PLACES = {'trunk': 'backbone.net', 'exits': 'head.exits', 'policy': 'policy'}
# What may differ from a config that is otherwise the published variant.
_OPTIONS = {
    'num_latents': 'model.backbone.num_latents',
    'num_classes': 'model.head.num_classes'
}
# Same weights, same operations: what may differ is the order of additions.
_TOLERANCE = 1e-5


class Source(NamedTuple):
    """A published file, read and understood.

    Args:
        path, sha256 (str): The file and its digest.
        weights (str): Which weights of it, 'model' or 'model_ema'.
        variant (dict): Arguments of ``DynPerceiver``.
        net (DynPerceiver): With the weights, in eval mode.
    """

    path: str
    sha256: str
    weights: str
    variant: Dict[str, Any]
    net: DynPerceiver


class Match(NamedTuple):
    """A config into whose model the weights of a variant load.

    Args:
        path (str, optional): Its file; None where no file is this variant.
        config (Config): The config, with the options.
        options (dict): What has to be changed in the file, as for
            ``--cfg-options``.
        others (Sequence[str]): Further files of the same network, which
            train it in another way.
    """

    path: Optional[str]
    config: Config
    options: Dict[str, Any]
    others: Sequence[str] = ()


def read_source(path: str, weights: str = 'model') -> Source:
    """Read a published file and infer its variant.

    ``weights`` are the trained ones, 'model', or their moving average,
    'model_ema'.

    Raises:
        InputError: If it cannot be read safely, or holds no known variant.
    """
    with input_errors(OSError, ValueError):
        content = published_weights(read_checkpoint(path), weights)
        variant, net = infer_variant(content), load_official(content)
    digest = file_sha256(path)
    return Source(path, digest, weights, variant, net)


def rename(state_dict: Mapping[str, Tensor]) -> Dict[str, Tensor]:
    """Name the entries of a ``DynPerceiver`` as those of a classifier."""
    parts = {name: name.partition('.') for name in state_dict}
    return {
        f'{_PLACES[part]}.{rest}': state_dict[name]
        for name, (part, _, rest) in parts.items()
    }


def model_config(variant: Mapping[str, Any]) -> Dict[str, Any]:
    """Write arguments of ``DynPerceiver`` as the ``model`` of a config.

    What is the default anyway is left out; merged into a config, it replaces
    the backbone.
    """
    defaults = inspect.signature(Trunk).parameters
    backbone = {
        name: value
        for name, value in variant.items() if name in defaults and (
            name == 'arch' or value != defaults[name].default)
    }
    head = dict(num_classes=variant['num_classes'], fkt=variant['fkt'])
    return dict(
        backbone=dict(_delete_=True, type='DynPerceiverBackbone', **backbone),
        head=head)


def find_config(folder: str, source: Source) -> Match:
    """Find the config of a variant by the names and shapes of its weights.

    Where none of the folder is this variant, another network's with the
    model replaced.

    Raises:
        InputError: If there is no config of any such network.
    """
    wanted = _shapes(rename(source.net.state_dict()))
    found: List[Match] = []
    relative: Optional[Config] = None
    # Others are derived from the shorter names.
    paths = map(str, Path(folder).glob('*.py'))
    for path in sorted(paths, key=lambda path: (len(path), path)):
        with input_errors(where=f'cannot read the config {path!r}: '):
            config = Config.fromfile(path)
        backbone = config.get('model', {}).get('backbone', {})
        if backbone.get('type') != 'DynPerceiverBackbone':
            continue
        config.model.pop('train_cfg', None)  # nothing is trained here
        relative = relative or config
        if backbone.get('arch') == source.variant['arch']:
            options = _adapt(config, source.variant)
            if _shapes(build_model(config).state_dict()) == wanted:
                found.append(Match(path, config, options))
    if found:
        best, *rest = sorted(found, key=lambda match: len(match.options))
        return best._replace(
            others=[str(m.path) for m in rest if m.options == best.options])
    if relative is None:
        raise InputError(f'there are no configs of Dyn-Perceiver in '
                         f'{folder!r}, where configs/imagenet is expected')
    relative.merge_from_dict({'model': model_config(source.variant)})
    return Match(None, relative, {})


def _adapt(config: Config, variant: Mapping[str, Any]) -> Dict[str, Any]:
    """Set what users set by options, and say what was changed."""
    options = {}
    for name, key in _OPTIONS.items():
        _, part, argument = key.split('.')
        if config.model[part].get(argument) != variant[name]:
            options[key] = config.model[part][argument] = variant[name]
    return options


def _shapes(state_dict: Mapping[str, Any]) -> Dict[str, torch.Size]:
    """Names and shapes of the weights."""
    return {
        name: value.shape
        for name, value in state_dict.items()
        if not name.endswith('_extra_state')
    }


def checkpoint_of(source: Source) -> Dict[str, Any]:
    """An ordinary checkpoint: ``state_dict``, and ``meta`` with its source."""
    made_from = dict(
        file=os.path.basename(source.path),
        sha256=source.sha256,
        weights=source.weights,
        variant=dict(source.variant))
    meta = dict(mmdynperceiver_version=__version__, made_from=made_from)
    return dict(meta=meta, state_dict=rename(source.net.state_dict()))


def write_verified(source: Source, match: Match, path: str) -> float:
    """Write a checkpoint if the config's model with it is the network.

    The file at ``path`` stays as it was if anything fails.

    Returns:
        float: Largest difference of the logits, over all exits.

    Raises:
        InputError: If it cannot be written, does not load into the config's
            model, or gives other logits.
    """
    model = build_model(match.config)
    with input_errors(OSError), atomic_file(path) as temporary:
        atomic_save(checkpoint_of(source), temporary)
        load_strict(model, read_weights(temporary), path)
        difference = largest_difference(model, source.net)
        if not difference <= _TOLERANCE:
            raise InputError(
                f'the model of the config gives other logits than the '
                f'published network, by up to {difference:.2g}; nothing was '
                f'written')
    return difference


@torch.no_grad()
def largest_difference(model: nn.Module, net: DynPerceiver) -> float:
    """Largest difference of the logits of two networks in eval mode."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 224, 224, generator=generator)
    pairs = zip(model(images, mode='tensor'), net(images))
    return max(float((own - other).abs().max()) for own, other in pairs)
