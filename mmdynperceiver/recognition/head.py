# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The exits as a head of MMAction2."""
from typing import Any, Dict, Optional, Sequence, Tuple, Union

import torch
import torch.nn.functional as F
from mmaction.models.heads import BaseHead
from mmaction.registry import MODELS
from mmaction.utils import SampleList
from torch import Tensor

from ..core import (Exits, LossWeights, Prediction, exit_losses,
                    fixed_exit_thresholds, select_exits)
from ..core.early_exit import average_groups
from ..core.exits import PAPER_KINDS
from ..hosts.exit_head import (build_loss_weights, check_classes,
                               check_one_label, fill_predictions)

__all__ = ['DynPerceiverTSMHead']


@MODELS.register_module()
class DynPerceiverTSMHead(BaseHead):
    """Exits over the frames' vectors of :class:`DynPerceiverTSM`.

    Each exit's logits are averaged over the frames of a video, and over its
    crops and clips. Forward knowledge transfer hands on the logits of each
    frame. ``in_channels``, ``kinds``, ``hidden_channels``, ``dropout`` and
    ``init_std`` belong to the backbone. Where a config leaves them out,
    :class:`DynPerceiverRecognizer` fills them in.

    Args:
        num_classes (int): Number K of classes.
        in_channels (Sequence[Sequence[int]]): Widths of the vectors of each
            exit (``Trunk.exit_channels``).
        fkt (bool): Forward knowledge transfer. Defaults to True.
        hidden_channels (int, optional): Width of the hidden layer of the
            exits that read features. Defaults to None, no hidden layer.
        dropout (float): Dropout rate of these exits. Defaults to 0.
        init_std (float, optional): Standard deviation of the initial weights
            of the exits that read features alone; None keeps PyTorch's.
            Defaults to None.
        kinds (Sequence[str]): What is pooled at each exit
            (``Trunk.exit_kinds``). Defaults to ('z', 'z', 'x', 'xz').
        loss_cls (dict): Config of the classification loss, the same at each
            exit. Defaults to ``dict(type='mmaction.CrossEntropyLoss')``.
        label_smooth_eps (float): Label smoothing. Defaults to 0.
        loss_weights (dict, optional): See
            :func:`~mmdynperceiver.hosts.exit_head.build_loss_weights`.
            Defaults to None, the published recipe.
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

    def __init__(self,
                 num_classes: int,
                 in_channels: Sequence[Sequence[int]],
                 fkt: bool = True,
                 hidden_channels: Optional[int] = None,
                 dropout: float = 0.,
                 init_std: Optional[float] = None,
                 kinds: Sequence[str] = PAPER_KINDS,
                 loss_cls: Dict[str,
                                Any] = dict(type='mmaction.CrossEntropyLoss'),
                 label_smooth_eps: float = 0.,
                 loss_weights: Union[LossWeights, dict, None] = None,
                 init_cfg: Optional[dict] = None) -> None:
        super().__init__(
            num_classes,
            in_channels,
            loss_cls,
            label_smooth_eps=label_smooth_eps,
            init_cfg=init_cfg)
        self.exits = Exits(in_channels, num_classes, fkt, hidden_channels,
                           dropout, init_std, kinds)
        self.loss_weights = build_loss_weights(loss_weights,
                                               self.exits.num_exits)

    def forward(self, feats: Sequence[Sequence[Tensor]], num_segs: int,
                **kwargs: Any) -> Tuple[Tensor, ...]:
        """Classify at every exit.

        Args:
            feats (Sequence[Sequence[Tensor]]): For each exit, vectors (B *
                M, C); the M images of a video stand together.
            num_segs (int): Images M of a video: frames, times crops, times
                clips.
            **kwargs: What else the host hands on; not used.

        Returns:
            tuple[Tensor]: Logits (B, K), shallow to deep.
        """
        # [B * M, K] -> [B, K]
        return tuple(
            average_groups(logits, num_segs) for logits in self.exits(feats))

    def loss_by_feat(self, all_logits: Sequence[Tensor],
                     data_samples: SampleList) -> Dict[str, Tensor]:
        """Losses from the logits of all exits.

        Args:
            all_logits (Sequence[Tensor]): Logits (B, K), shallow to deep.
            data_samples (list[ActionDataSample]): The targets: a class, or
                one score for each class, as batch blending makes them.

        Returns:
            dict[str, Tensor]: See
            :func:`~mmdynperceiver.core.exit_losses`.

        Raises:
            InputError: If a video has several labels.
        """
        target = self._targets(data_samples).to(all_logits[0].device)
        return exit_losses(all_logits, target, self._criterion,
                           self.loss_weights)

    def _targets(self, data_samples: SampleList) -> Tensor:
        """Classes (B,), or scores (B, K) of which each row sums up to 1."""
        labels = [sample.gt_label for sample in data_samples]
        check_one_label([
            label for label in labels if not label.is_floating_point()
            or len(label) != self.num_classes or label.sum() > 1.5
        ])
        target = torch.stack(labels)
        return target[:, 0] if target.shape[1:] == (1, ) else target

    def _criterion(self, logits: Tensor, target: Tensor) -> Tensor:
        """The classification loss of one exit."""
        if self.label_smooth_eps:
            if target.ndim == 1:
                target = F.one_hot(target, self.num_classes)
            target = (1 - self.label_smooth_eps) * target + \
                self.label_smooth_eps / self.num_classes
        return self.loss_cls(logits, target)

    def predict_by_feat(self, all_logits: Sequence[Tensor],
                        data_samples: SampleList) -> SampleList:
        """Predict at the last exit.

        The head knows no thresholds; :class:`DynPerceiverRecognizer` does.

        Args:
            all_logits (Sequence[Tensor]): Logits (B, K), shallow to deep.
            data_samples (list[ActionDataSample]): To be filled in.

        Returns:
            list[ActionDataSample]: See :meth:`fill`.
        """
        num_exits = len(all_logits)
        last = fixed_exit_thresholds(num_exits - 1, num_exits)
        return self.fill(
            select_exits(all_logits, last), data_samples, all_logits)

    def fill(self,
             out: Prediction,
             data_samples: SampleList,
             all_logits: Optional[Sequence[Tensor]] = None,
             macs: Optional[Sequence[int]] = None) -> SampleList:
        """Write predictions into data samples.

        Args:
            out (Prediction): Outcome of an early-exiting pass.
            data_samples (list[ActionDataSample]): To be filled in.
            all_logits (Sequence[Tensor], optional): Logits (B, K) of each
                exit, if all were run. Defaults to None.
            macs (Sequence[int], optional): MACs of a video up to each exit.
                Defaults to None, not known.

        Returns:
            list[ActionDataSample]: See
            :func:`~mmdynperceiver.hosts.exit_head.fill_predictions`.
        """
        return fill_predictions(data_samples, out, all_logits, macs)

    def _load_from_state_dict(self, state_dict: Dict[str, Any], prefix: str,
                              *args: Any) -> None:
        """Refuse weights of another number of classes."""
        check_classes(self.exits, state_dict, f'{prefix}exits.',
                      'model.cls_head.num_classes')
        super()._load_from_state_dict(state_dict, prefix, *args)
