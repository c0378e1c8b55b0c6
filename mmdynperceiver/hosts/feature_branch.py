# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Backbones from a host's registry as the feature branch."""
from typing import Any

from mmengine.registry import MODELS, Registry
from torch import nn

from ..core import split_backbone
from ..io.checkpoint_file import check_weights

__all__ = ['build_arch', 'init_host_weights']


def build_arch(arch: Any, registry: Registry = MODELS) -> Any:
    """Build what a config gives as ``arch``.

    Args:
        arch (str | dict): The config of a backbone, with ``type`` and
            optionally ``cut_after`` (see
            :func:`~mmdynperceiver.core.split_backbone`), becomes a feature
            branch; anything else is for ``build_feature_branch`` as it is.
        registry (Registry): Where a ``type`` without a package's name is
            looked up. Defaults to mmengine's root.

    Raises:
        ValueError: If the backbone cannot be cut into stages.

    Example:
        >>> from mmdynperceiver.core import Trunk
        >>> from mmdynperceiver.hosts.feature_branch import build_arch
        >>> arch = dict(type='mmpretrain.ResNet', depth=18)
        >>> trunk = Trunk(build_arch(arch), num_latents=16)
        >>> trunk.channels, trunk.strides
        ((64, 64, 128, 256, 512), (4, 4, 8, 16, 32))
    """
    if not isinstance(arch, dict) or 'type' not in arch:
        return arch
    config = dict(arch)
    cut_after = config.pop('cut_after', None)
    backbone = registry.build(config)
    return split_backbone(backbone, cut_after, init_host_weights)


def init_host_weights(backbone: nn.Module) -> None:
    """Initialise a backbone whose parts are in a model under way.

    mmengine notes in every module of the model what became of its weights
    and takes a module without notes for a model of its own, whose end would
    remove the notes of the shared parts. The backbone and its containers,
    which are not in the model, borrow them. One without ``init_weights``, as
    those of timm, is initialised already.

    Raises:
        ValueError: If a weight is not finite afterwards.
    """
    if not hasattr(backbone, 'init_weights'):
        return
    notes = '_params_init_info'
    found = [vars(m)[notes] for m in backbone.modules() if notes in vars(m)]
    borrowers = [
        m for m in backbone.modules() if found and notes not in vars(m)
    ]
    for module in borrowers:
        setattr(module, notes, found[0])
    try:
        backbone.init_weights()
    finally:
        for module in borrowers:
            delattr(module, notes)
    # They may come from a file that init_cfg names.
    check_weights(backbone.state_dict())
