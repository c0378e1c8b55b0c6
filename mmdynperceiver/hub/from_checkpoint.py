# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""From a trained checkpoint and its config to a folder."""
import os
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

import torch
from mmengine.config import Config
from torch import nn

from ..core import OperatingPoint
from ..core.models import own_names
from ..deploy.pipeline import read_preprocessing
from ..errors import InputError, input_errors
from ..hosts.build import model_of, test_transform
from .classifier import ImageClassifier
from .host_models import save_model

__all__ = ['network_settings', 'save_checkpoint']

# What a backbone's config has beside the arguments of the network.
_NOT_OF_THE_NETWORK = ('type', 'frozen_stages', 'norm_eval', 'init_cfg',
                       'backbone_weights', 'freeze_branch',
                       'gradient_equilibrium', '_scope_')
_BACKBONE = 'DynPerceiverBackbone'
# Same weights, same operations.
_TOLERANCE = 1e-5


def network_settings(config: Config) -> Optional[Dict[str, Any]]:
    """Arguments of ``DynPerceiver`` for a config's model; None where it is
    not an image classifier whose feature branch has a name."""
    model = model_of(config)
    backbone = dict(model.get('backbone') or {})
    arch, head = backbone.get('arch'), model.get('head') or {}
    if config.get('default_scope') != 'mmpretrain' or \
            str(backbone.get('type')).rpartition('.')[2] != _BACKBONE or \
            isinstance(arch, dict) and 'type' in arch:
        return None
    settings = {
        key: value
        for key, value in backbone.items() if key not in _NOT_OF_THE_NETWORK
    }
    settings.update({
        key: head[key]
        for key in ('num_classes', 'fkt', 'dropout', 'boosting') if key in head
    })
    return settings


def save_checkpoint(folder: Union[str, os.PathLike],
                    model: Any,
                    config: Config,
                    classes: Sequence[str],
                    operating_points: Sequence[OperatingPoint] = (),
                    about: Optional[Mapping[str, Any]] = None,
                    size: Optional[Sequence[int]] = None) -> str:
    """Save a model with its weights and its policy.

    Args:
        folder (str | PathLike): New or empty.
        model (nn.Module): The early-exit model of the config.
        config (Config): The whole config.
        classes, operating_points, about: As of :class:`ImageClassifier`.
        size (Sequence[int], optional): Height and width of the images, where
            the test pipeline does not set them. Defaults to None.

    Returns:
        str: 'network' for an :class:`ImageClassifier`, 'host' for a host's
        model.

    Raises:
        FileExistsError: If there is something at this path.
        InputError: If something does not fit.
    """
    settings = network_settings(config)
    if settings is None:
        save_model(folder, model, config, classes, operating_points, about)
        return 'host'
    with input_errors(ValueError, TypeError):
        preprocessing = read_preprocessing(
            test_transform(config),
            model_of(config).get('data_preprocessor') or {}, size)
        net = ImageClassifier(
            preprocessing=preprocessing,
            classes=classes,
            operating_points=operating_points,
            about=about,
            **settings)
    net.load_state_dict(own_names(model.state_dict()))
    net.policy = model.policy
    _check_same(model, net.eval(), preprocessing['size'])
    net.save_pretrained(folder)
    return 'network'


@torch.no_grad()
def _check_same(model: nn.Module, net: ImageClassifier,
                size: List[int]) -> None:
    """Refuse a network that does not give the logits of the model."""
    images = torch.randn(
        2, 3, *size, generator=torch.Generator().manual_seed(0))
    pairs = zip(model(images, mode='tensor'), net(images))
    difference = max(float((own - other).abs().max()) for own, other in pairs)
    if not difference <= _TOLERANCE:
        raise InputError(f'the network gives other logits than the model of '
                         f'the config, by up to {difference:.2g}; nothing was '
                         f'written')
