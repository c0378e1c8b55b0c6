# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The same network with less work, for prediction alone."""
from typing import Any, Optional, Sequence, TypeVar

import torch
from torch import nn

from ..complexity import CountsMacs
from ..exits import Exits
from ..segments import SegmentedTrunk
from .copies import copy_model, on_meta
from .folding import fold
from .micro_batches import measure_micro_batches

__all__ = ['prepare_for_inference']

_Module = TypeVar('_Module', bound=nn.Module)


@torch.no_grad()
def prepare_for_inference(model: _Module,
                          image_size: Optional[Sequence[int]] = (224, 224),
                          dtype: Optional[torch.dtype] = None) -> _Module:
    """Copy a model and fold what does not depend on the image.

    Batch norms, constant products, pooling kernels and the end of the last z2x
    (see :mod:`~mmdynperceiver.core.accelerate.folding`; the state behind the
    last segment then holds the mean (B, C, 1, 1), not the map); dropout and
    stochastic depth are gone, and 1x1 convolutions are matrix products. On
    CPUs, large batches run through a segment in micro-batches.

    In single precision the logits of an exit stay those of the model but for
    1e-4 of its largest logit (rounding; on CPUs, of any image size), and the
    MACs counted are those of the network as published, not the fewer that are
    left. What is not a layer as PyTorch has it (wrapped, hooked, subclassed,
    parametrised, quantised) is called as it is, and so is a feature branch
    that ``torch.fx`` cannot trace. A prepared model comes out as it is, but
    for other arguments.

    Args:
        model (nn.Module): A trunk, or any module that holds one and perhaps
            exits: :class:`~mmdynperceiver.core.DynPerceiver`, a classifier,
            a backbone; in eval mode, with its weights loaded.
        image_size (Sequence[int], optional): Height and width for which the
            pooling kernels are made; other sizes are computed as before.
            None makes none. Defaults to (224, 224).
        dtype (torch.dtype, optional): ``torch.bfloat16`` or
            ``torch.float16`` to compute in: weights are converted once,
            images when they come, and logits, or the maps of a detector, are
            float32 again. It pays on processors with matrix units for it, and
            changes the logits by some hundredths of the largest one. Defaults
            to None, that of the model.

    Returns:
        nn.Module: Of the same class, without gradients. Weights cannot be
        loaded into it, and it cannot be trained.

    Raises:
        RuntimeError: If the model is in training mode.
        ValueError: If there is no trunk in it, or another argument does not
            fit.

    Example:
        >>> net = DynPerceiver('resnet18', width=0.25, num_latents=16).eval()
        >>> fast = prepare_for_inference(net)
        >>> out = fast.predict(torch.rand(1, 3, 224, 224), (0.9, 0.8, 0.7))
    """
    _check(model, image_size, dtype)
    prepared = copy_model(model).requires_grad_(False)
    for trunk in prepared.modules():
        if isinstance(trunk, SegmentedTrunk):
            trunk.micro_batches = measure_micro_batches(
                trunk, image_size or (224, 224))
    fold(prepared, image_size)
    if isinstance(model, CountsMacs) and 'counted_model' not in vars(model):
        # Not registered as a part: it has no data.
        prepared.__dict__['counted_model'] = on_meta(model)
    setattr(prepared, 'train', _Untrainable(prepared))
    if dtype is not None:
        _set_precision(prepared, dtype)
    convert: Any = prepared.to
    return convert(memory_format=torch.channels_last)


def _set_precision(prepared: nn.Module, dtype: torch.dtype) -> None:
    """Convert trunk and exits; images come and logits go in float32."""
    for module in prepared.modules():
        if isinstance(module, SegmentedTrunk):
            module.to(dtype).dtype = dtype
        elif isinstance(module, Exits):
            module.to(dtype).logits_dtype = torch.float32


def _check(model: nn.Module, image_size: Any,
           dtype: Optional[torch.dtype]) -> None:
    """Refuse what cannot be prepared."""
    if image_size is not None and not (isinstance(image_size, (tuple, list))
                                       and len(image_size) == 2):
        raise ValueError(f'image_size must be height and width, such as (224, '
                         f'224), or None, got {image_size!r}')
    if dtype not in (None, torch.bfloat16, torch.float16):
        raise ValueError(f'dtype must be torch.bfloat16, torch.float16 or '
                         f'None, got {dtype!r}')
    if model.training:
        raise RuntimeError('prepare_for_inference was called in training '
                           'mode, and batch norms without their running '
                           'statistics cannot be folded: call eval() first')
    if not any(isinstance(m, SegmentedTrunk) for m in model.modules()):
        raise ValueError(f'there is no trunk in {type(model).__name__}')


class _Untrainable:
    """Stands in for ``train`` of a prepared model."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __call__(self, mode: bool = True) -> nn.Module:
        """Refuse training mode; eval mode is what there is."""
        if mode:
            raise RuntimeError('a model from prepare_for_inference cannot be '
                               'trained: train the one it was made of')
        return self.model
