# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The exits as a head of MMAction2."""
from typing import Any, Dict, Optional, Sequence, Tuple, Union

import torch
import torch.nn.functional as F
from mmaction.models.heads import BaseHead
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from torch import Tensor

from ..core import Exits, LossWeights
from ..core.early_exit import average_groups
from ..core.exits import PAPER_KINDS
from ..core.sample_weights import SampleWeights
from ..hosts.exit_head import (ExitHead, build_loss_weights,
                               build_sample_weights, check_one_label)

__all__ = ['DynPerceiverTSMHead']


@MODELS.register_module()
class DynPerceiverTSMHead(ExitHead, BaseHead):
    """Exits over the frames' vectors of :class:`DynPerceiverTSM`.

    Each exit's logits are averaged over the frames of a video, and over its
    crops and clips. Forward knowledge transfer hands on the logits of each
    frame.

    Args:
        num_classes (int): Number K of classes.
        in_channels, fkt, hidden_channels, dropout, init_std, kinds: As for
            :class:`mmdynperceiver.core.Exits` (``in_channels`` are its
            ``exit_channels``). All but ``fkt`` belong to the backbone: where
            a config leaves them out, :class:`DynPerceiverRecognizer` fills
            them in.
        boosting (float, optional): As for the same. Defaults to None.
        loss_cls (dict): Config of the classification loss, the same at each
            exit. Defaults to ``dict(type='mmaction.CrossEntropyLoss')``.
        label_smooth_eps (float): Label smoothing. Defaults to 0.
        loss_weights (dict, optional): See
            :func:`~mmdynperceiver.hosts.exit_head.build_loss_weights`.
            Defaults to None, the published recipe.
        sample_weights (dict, optional): See
            :func:`~mmdynperceiver.hosts.exit_head.build_sample_weights`.
            Defaults to None, all videos count alike.
        init_cfg (dict, optional): Initialisation config. Defaults to None.

    Raises:
        ValueError: If an argument does not fit.

    Example:
        >>> import torch
        >>> from mmdynperceiver.recognition import DynPerceiverTSMHead
        >>> head = DynPerceiverTSMHead(10, [[32], [64], [128], [128, 64]])
        >>> feats = [[torch.rand(16, c) for c in cs]
        ...          for cs in head.in_channels]
        >>> [tuple(logits.shape) for logits in head(feats, num_segs=8)]
        [(2, 10), (2, 10), (2, 10), (2, 10)]
    """

    sample_type = ActionDataSample
    option = 'model.cls_head.num_classes'

    def __init__(
            self,
            num_classes: int,
            in_channels: Sequence[Sequence[int]],
            fkt: bool = True,
            hidden_channels: Optional[int] = None,
            dropout: float = 0.,
            init_std: Optional[float] = None,
            kinds: Sequence[str] = PAPER_KINDS,
            loss_cls: dict = dict(type='mmaction.CrossEntropyLoss'),
            label_smooth_eps: float = 0.,
            loss_weights: Union[LossWeights, dict, None] = None,
            init_cfg: Optional[dict] = None,
            boosting: Optional[float] = None,
            sample_weights: Union[SampleWeights, dict, None] = None) -> None:
        super().__init__(
            num_classes,
            in_channels,
            loss_cls,
            label_smooth_eps=label_smooth_eps,
            init_cfg=init_cfg)
        self.exits = Exits(in_channels, num_classes, fkt, hidden_channels,
                           dropout, init_std, kinds, boosting)
        self.loss_weights = build_loss_weights(loss_weights,
                                               self.exits.num_exits)
        self.sample_weights = build_sample_weights(sample_weights,
                                                   self.exits.num_exits)

    def forward(self, feats: Sequence[Sequence[Tensor]], num_segs: int,
                **kwargs: Any) -> Tuple[Tensor, ...]:
        """Logits (B, K) of each exit, shallow to deep.

        Args:
            feats (Sequence[Sequence[Tensor]]): For each exit, vectors (B *
                M, C); the M images of a video stand together.
            num_segs (int): Images M of a video: frames, times crops, times
                clips.
            **kwargs: What else the host hands on; not used.
        """
        # [B * M, K] -> [B, K]
        return tuple(
            average_groups(logits, num_segs) for logits in self.exits(feats))

    def loss(self, feats: Sequence[Sequence[Tensor]],
             data_samples: Sequence[ActionDataSample], num_segs: int,
             **kwargs: Any) -> Dict[str, Tensor]:
        """Losses from vectors; see :meth:`forward` and `loss_of_vectors`."""
        return self.loss_of_vectors(feats, data_samples, num_segs)

    def targets(self, data_samples: Sequence[ActionDataSample]) -> Tensor:
        """Classes (B,), or scores (B, K) of which each row sums up to 1."""
        labels = [sample.gt_label for sample in data_samples]
        check_one_label([
            label for label in labels if not label.is_floating_point()
            or len(label) != self.num_classes or label.sum() > 1.5
        ])
        target = torch.stack(labels)
        return target[:, 0] if target.shape[1:] == (1, ) else target

    def criterion(self, logits: Tensor, target: Tensor) -> Tensor:
        """The classification loss of one exit, with smoothed labels."""
        if self.label_smooth_eps:
            if target.ndim == 1:
                target = F.one_hot(target, self.num_classes)
            target = (1 - self.label_smooth_eps) * target + \
                self.label_smooth_eps / self.num_classes
        return self.loss_cls(logits, target)
