# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The exits as a head of MMPretrain."""
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import torch
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from ..core import Exits, LossWeights
from ..core.exits import PAPER_KINDS
from ..core.sample_weights import SampleWeights
from ..hosts.exit_head import (ExitHead, build_loss_weights,
                               build_sample_weights, check_one_label)

__all__ = ['DynPerceiverHead']


@MODELS.register_module()
class DynPerceiverHead(ExitHead, BaseModule):
    """Exits over the vectors of :class:`DynPerceiverBackbone`.

    Args:
        num_classes (int): Number K of classes.
        in_channels, fkt, hidden_channels, dropout, init_std, kinds: As for
            :class:`mmdynperceiver.core.Exits` (``in_channels`` are its
            ``exit_channels``). All but ``fkt`` belong to the backbone: where
            a config leaves them out, :class:`DynPerceiverClassifier` fills
            them in.
        boosting (float, optional): As for the same. Defaults to None.
        loss (dict): Config of the classification loss, the same at each
            exit. Defaults to ``dict(type='mmpretrain.CrossEntropyLoss')``.
        loss_weights (dict, optional): See
            :func:`~mmdynperceiver.hosts.exit_head.build_loss_weights`.
            Defaults to None, the published recipe.
        sample_weights (dict, optional): See
            :func:`~mmdynperceiver.hosts.exit_head.build_sample_weights`.
            Defaults to None, all samples count alike.
        init_cfg (dict, optional): Initialisation config. Defaults to None.

    Raises:
        ValueError: If an argument does not fit.

    Example:
        >>> import torch
        >>> from mmdynperceiver.classification import DynPerceiverHead
        >>> head = DynPerceiverHead(10, [[32], [64], [128], [128, 64]])
        >>> feats = [[torch.rand(2, c) for c in cs] for cs in head.in_channels]
        >>> [tuple(logits.shape) for logits in head(feats)]
        [(2, 10), (2, 10), (2, 10), (2, 10)]
    """

    sample_type = DataSample
    option = 'model.head.num_classes'

    def __init__(
            self,
            num_classes: int,
            in_channels: Sequence[Sequence[int]],
            fkt: bool = True,
            hidden_channels: Optional[int] = None,
            dropout: float = 0.,
            init_std: Optional[float] = None,
            kinds: Sequence[str] = PAPER_KINDS,
            loss: Union[dict,
                        nn.Module] = dict(type='mmpretrain.CrossEntropyLoss'),
            loss_weights: Union[LossWeights, dict, None] = None,
            init_cfg: Optional[dict] = None,
            boosting: Optional[float] = None,
            sample_weights: Union[SampleWeights, dict, None] = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.exits = Exits(in_channels, num_classes, fkt, hidden_channels,
                           dropout, init_std, kinds, boosting)
        self.loss_weights = build_loss_weights(loss_weights,
                                               self.exits.num_exits)
        self.sample_weights = build_sample_weights(sample_weights,
                                                   self.exits.num_exits)
        self.loss_module = loss if isinstance(
            loss, nn.Module) else MODELS.build(loss)

    def pre_logits(self,
                   feats: Sequence[Any]) -> Tuple[Tuple[Tensor, ...], ...]:
        """What each exit classifies: the pooled vectors as they are.

        Args:
            feats (Sequence): For each exit, its vectors (B, C), or one
                vector that holds them all.
        """
        return tuple(
            vectors.split(tuple(channels), 1
                          ) if isinstance(vectors, Tensor) else tuple(vectors)
            for vectors, channels in zip(feats, self.in_channels))

    def forward(self, feats: Sequence[Any]) -> Tuple[Tensor, ...]:
        """Logits (B, K) of each exit, shallow to deep, from vectors.

        Args:
            feats (Sequence): See :meth:`pre_logits`.
        """
        return self.exits(self.pre_logits(feats))

    def loss(self, feats: Sequence[Any],
             data_samples: List[DataSample]) -> Dict[str, Tensor]:
        """Losses from vectors; see :meth:`pre_logits` and
        `loss_of_vectors`."""
        return self.loss_of_vectors(self.pre_logits(feats), data_samples)

    def predict(
        self,
        feats: Sequence[Any],
        data_samples: Optional[List[Optional[DataSample]]] = None
    ) -> List[DataSample]:
        """Predict at the last exit; see :meth:`pre_logits` and `fill`."""
        return self.predict_by_feat(self(feats), data_samples)

    def targets(self, data_samples: Sequence[DataSample]) -> Tensor:
        """``gt_score`` (B, K), or else ``gt_label`` (B,)."""
        if 'gt_label' in data_samples[0]:
            check_one_label([sample.gt_label for sample in data_samples])
        if 'gt_score' in data_samples[0]:
            return torch.stack([sample.gt_score for sample in data_samples])
        return torch.cat([sample.gt_label for sample in data_samples])

    def criterion(self, logits: Tensor, target: Tensor) -> Tensor:
        """The classification loss of one exit."""
        return self.loss_module(logits, target, avg_factor=len(target))

    def sample_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """The classification loss (B,) of each sample at one exit."""
        found = self.loss_module(logits, target, reduction_override='none')
        # Those of a loss over classes add up.
        return found if found.ndim == 1 else found.flatten(1).sum(1)
