# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Models of the hosts as folders: videos, detection, other backbones.

The config of the model and its test pipeline are saved as data. Of these only
what the registries know is built, so that a folder from elsewhere runs no code
of its own.
"""
import dataclasses
import importlib
import os
import re
from typing import Any, Iterator, Mapping, Optional, Sequence, Union

from mmengine.config import Config
from mmengine.registry import (MODELS, TASK_UTILS, TRANSFORMS, Registry,
                               init_default_scope)
from torch import Tensor, nn

from ..compat.broken_host import TASK_OF_HOST
from ..core import ExitPolicy, OperatingPoint
from ..errors import InputError, input_errors
from ..hosts.build import model_of, test_transform
from ..io.checkpoint_file import in_words, misfits
from ..io.model_folder import save_folder
from .card import model_card

__all__ = ['TASK_OF_SCOPE', 'build_host_model', 'host_config', 'save_model']

TASK_OF_SCOPE = dict(
    mmpretrain='image-classification',
    mmaction='video-classification',
    mmdet='object-detection')
# A name in a registry, perhaps with its package. Registries import longer
# paths, and what is in no registry, from wherever they lead.
_TYPE = re.compile(r'((mmdynperceiver|mmpretrain|mmaction|mmdet|mmcv|mmengine)'
                   r'\.)?[A-Za-z]\w*')
# Stands in JSON for a tuple.
_TUPLE = '__tuple__'
# What would fetch weights that the folder holds anyway.
_WEIGHTS = ('init_cfg', 'pretrained', 'backbone_weights')


def save_model(folder: Union[str, os.PathLike],
               model: nn.Module,
               config: Config,
               classes: Optional[Sequence[str]] = None,
               operating_points: Sequence[OperatingPoint] = (),
               about: Optional[Mapping[str, Any]] = None) -> None:
    """Save a host's model with its config.

    Args:
        folder (str | PathLike): New or empty.
        model (nn.Module): Of the config, with its weights and its policy.
        config (Config): The whole config.
        classes, operating_points, about: As of
            :class:`~mmdynperceiver.hub.ImageClassifier`.

    Raises:
        FileExistsError: If there is something at this path.
        InputError: If the config holds what is no data.
    """
    scope = config.get('default_scope')
    if scope not in TASK_OF_SCOPE:
        raise InputError(f'the config must be one of '
                         f'{", ".join(TASK_OF_SCOPE)}, got {scope!r}')
    policy = getattr(model, 'policy', None)
    with input_errors(TypeError, ValueError):
        settings = _without_weights(model_of(config))
        content = dict(
            kind='host',
            task=TASK_OF_SCOPE[scope],
            scope=scope,
            model=_as_data(settings),
            pipeline=_as_data(test_transform(config)),
            classes=None if classes is None else list(classes),
            policy=None if policy is None else dict(
                policy.settings, thresholds=policy.thresholds),
            certificate=dict(getattr(policy, 'certificate', None) or {}),
            operating_points=[
                dataclasses.asdict(point) for point in operating_points
            ],
            about=dict(about or {}))
    _check_types(content['model'])
    title = os.path.basename(os.path.abspath(os.fspath(folder)))
    save_folder(folder, content, model.state_dict(),
                model_card(content, title))


def host_config(content: Mapping[str, Any], folder: str) -> Config:
    """The config of a folder's model, as far as testing needs it; what it
    names is registered then.

    Raises:
        ImportError: If the host is not installed.
        ValueError: If it names anything but parts of registries.
    """
    scope = content.get('scope')
    if scope not in TASK_OF_HOST:
        raise ValueError(f'{folder!r} is of the scope {scope!r}; known are '
                         f'{", ".join(TASK_OF_HOST)}')
    importlib.import_module(f'mmdynperceiver.{TASK_OF_HOST[scope]}')
    try:
        _check_types(content['model'])
        _check_types(content['pipeline'])
        pipeline = _from_data(content['pipeline'])
        dataset = dict(pipeline=pipeline)
        return Config(
            dict(
                default_scope=scope,
                model=_from_data(content['model']),
                test_pipeline=pipeline,
                test_dataloader=dict(dataset=dataset)))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{folder!r} does not describe a model that this '
                         f'version knows: {error}') from error


def build_host_model(content: Mapping[str, Any],
                     weights: Mapping[str, Tensor],
                     folder: str,
                     operating_point: Optional[int] = None) -> nn.Module:
    """Build the model that a folder holds, in eval mode.

    It has the attributes that the functions of ``mmpretrain.apis``,
    ``mmaction.apis`` and ``mmdet.apis`` look for.

    Raises:
        ImportError: If the host is not installed.
        ValueError: If something does not fit.
    """
    config = host_config(content, folder)
    with input_errors():
        init_default_scope(content['scope'])
        model = MODELS.build(config.model)
    found = misfits(model.state_dict(), weights)
    if found:
        raise ValueError(f'the weights in {folder!r} are not those of the '
                         f'model in its config; {in_words(found)}')
    model.load_state_dict(weights, strict=False)
    if hasattr(model, 'policy'):
        model.policy.certificate = content.get('certificate') or {}
    if operating_point is not None:
        points = content.get('operating_points') or []
        if not 0 <= operating_point < len(points):
            raise ValueError(f'there is no operating point {operating_point}: '
                             f'{folder!r} has {len(points)}, from 0')
        model.policy = ExitPolicy.from_operating_point(
            OperatingPoint.from_content(points[operating_point]))
    meta = dict(classes=content.get('classes'))
    model.cfg = model._config = config
    model.dataset_meta = model._dataset_meta = meta
    return model.eval()


def _without_weights(node: Any) -> Any:
    """A config that fetches no weights."""
    if isinstance(node, dict):
        return {
            key: _without_weights(value)
            for key, value in node.items() if key not in _WEIGHTS
        }
    if isinstance(node, (list, tuple)):
        return type(node)(_without_weights(value) for value in node)
    return node


def _as_data(node: Any) -> Any:
    """What JSON can hold of a config; hosts tell tuples from lists."""
    if isinstance(node, dict):
        return {key: _as_data(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        values = [_as_data(value) for value in node]
        return {_TUPLE: values} if isinstance(node, tuple) else values
    if not isinstance(node, (str, int, float, type(None))):
        raise TypeError(f'a folder holds data, and the config has {node!r}')
    return node


def _from_data(node: Any) -> Any:
    """The config that :func:`_as_data` was given."""
    if isinstance(node, list):
        return [_from_data(value) for value in node]
    if not isinstance(node, dict):
        return node
    if set(node) == {_TUPLE}:
        return tuple(_from_data(value) for value in node[_TUPLE])
    return {key: _from_data(value) for key, value in node.items()}


def _types(node: Any) -> Iterator[Any]:
    """All that a config names as a type."""
    if isinstance(node, dict):
        if 'type' in node:
            yield node['type']
        node = list(node.values())
    for child in node if isinstance(node, (list, tuple)) else ():
        yield from _types(child)


def _names(registry: Registry) -> Iterator[str]:
    """Names in a registry and those below it."""
    yield from registry.module_dict
    for child in registry.children.values():
        yield from _names(child)


def _check_types(node: Any) -> None:
    """Refuse types that are no names in a registry."""
    known = {
        name
        for registry in (MODELS, TASK_UTILS, TRANSFORMS)
        for name in _names(registry)
    }
    for name in _types(node):
        if not isinstance(name, str) or not _TYPE.fullmatch(name) or \
                '.' in name and name.rpartition('.')[2] not in known:
            raise ValueError(f'the type {name!r} is no name in a registry of '
                             f'OpenMMLab')
