# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A classifier whose images skip blocks, each those it does not need."""
from typing import Any, Dict, List, Optional

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from torch import Tensor

from ..core.networks import SkipNet
from ..errors import InputError
from ..hosts.wrappers import unwrap_model
from .classifier import DynPerceiverClassifier

__all__ = ['SkippingClassifier', 'SoftGatesHook']


@MODELS.register_module()
class SkippingClassifier(DynPerceiverClassifier):
    """Classifier over a backbone that skips blocks, as ConvAIGBackbone and
    SkipNetBackbone do.

    The MACs told of an image (``macs``) are those of the blocks that it ran;
    those of the exit (``exit_macs``) are of all blocks.

    Args:
        rate_weight (float): Weight of the loss of the shares which run a
            block: of ConvNet-AIG how far they are from its ``target_rate``,
            of SkipNet their mean. Defaults to 2.
        **kwargs: As of :class:`DynPerceiverClassifier`.

    Raises:
        ValueError: If the weight is negative.
    """

    def __init__(self,
                 *args: Any,
                 rate_weight: float = 2.,
                 **kwargs: Any) -> None:
        if not rate_weight >= 0:
            raise ValueError(f'rate_weight must be at least 0, got '
                             f'{rate_weight!r}')
        super().__init__(*args, **kwargs)
        self.rate_weight = rate_weight

    def loss(self, inputs: Tensor, data_samples: List[Any],
             **kwargs: Any) -> Dict[str, Tensor]:
        """Losses of normalised images (B, 3, H, W): those of the exit and
        ``loss_rate``; ``rate`` is the mean share that ran a block."""
        losses = super().loss(inputs, data_samples, **kwargs)
        trunk = self.backbone.net
        losses['loss_rate'] = self.rate_weight * trunk.rate_loss()
        losses['rate'] = torch.stack(trunk.rates).mean().detach()
        # They hold on to the graph, with which no model can be copied.
        trunk.rates = []
        return losses

    def predict(self,
                inputs: Tensor,
                data_samples: Optional[List[Any]] = None,
                **kwargs: Any) -> List[Any]:
        """Predict, with the MACs that each image took."""
        trunk, exits = self.exit_parts()
        shape = tuple(inputs.shape[1:])
        total, = self.macs_per_exit(shape)
        blocks = self._block_macs(shape)
        state, vectors = trunk.segment(0, trunk.initial_state(inputs))
        logits, _ = exits.step(0, vectors)
        samples = self.head.fill(
            self.policy.replay([logits]), data_samples, [logits], (total, ))
        for sample, ran in zip(samples, state.ran.tolist()):
            saved = sum(macs for macs, one in zip(blocks, ran) if not one)
            sample.set_field(total - saved, 'macs')
        return samples

    def _block_macs(self, shape: Any) -> Any:
        """MACs of the blocks, of the last size kept."""
        known = self.__dict__.get('_blocks')
        if known is None or known[0] != shape:
            known = (shape, self.backbone.net.block_macs(shape))
            self.__dict__['_blocks'] = known
        return known[1]


@HOOKS.register_module()
class SoftGatesHook(Hook):
    """Train SkipNet with soft gates first, and with hard ones then.

    Args:
        until (float): Share of the iterations with soft gates, from 0 to 1.
            Defaults to 0.5.

    Raises:
        ValueError: If the share is out of its range.
        InputError: Before training, if the model is no SkipNet.
    """

    def __init__(self, until: float = 0.5) -> None:
        if not 0 <= until <= 1:
            raise ValueError(f'until must be a share from 0 to 1, got '
                             f'{until!r}')
        self.until = until

    def before_train(self, runner: Runner) -> None:
        """Refuse other models before any work is done."""
        trunk = _trunk(runner)
        if not isinstance(trunk, SkipNet):
            raise InputError(
                f'SoftGatesHook is for SkipNetBackbone, got a model of '
                f'{type(trunk).__name__}: remove it from custom_hooks')

    def before_train_iter(self,
                          runner: Runner,
                          batch_idx: int,
                          data_batch: Any = None) -> None:
        """Tell the gates what they are."""
        _trunk(runner).soft = runner.iter < self.until * runner.max_iters


def _trunk(runner: Runner) -> Any:
    """The network without its exits, None where there is no such part."""
    model = unwrap_model(runner.model)
    return getattr(getattr(model, 'backbone', None), 'net', None)
