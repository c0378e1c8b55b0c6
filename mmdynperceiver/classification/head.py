# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The exits as a head of MMPretrain."""
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import torch
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from ..core import (Exits, LossWeights, Prediction, exit_losses,
                    fixed_exit_thresholds, select_exits)
from ..core.exits import PAPER_KINDS
from ..hosts.exit_head import (build_loss_weights, check_classes,
                               check_one_label, fill_predictions)

__all__ = ['DynPerceiverHead']


@MODELS.register_module()
class DynPerceiverHead(BaseModule):
    """Exits over the vectors of :class:`DynPerceiverBackbone`.

    ``in_channels``, ``kinds``, ``hidden_channels``, ``dropout`` and
    ``init_std`` belong to the backbone. Where a config leaves them out,
    :class:`DynPerceiverClassifier` fills them in.

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
        loss (dict): Config of the classification loss, the same at each
            exit. Defaults to ``dict(type='mmpretrain.CrossEntropyLoss')``.
        loss_weights (dict, optional): See
            :func:`~mmdynperceiver.hosts.exit_head.build_loss_weights`.
            Defaults to None, the published recipe.
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

    def __init__(self,
                 num_classes: int,
                 in_channels: Sequence[Sequence[int]],
                 fkt: bool = True,
                 hidden_channels: Optional[int] = None,
                 dropout: float = 0.,
                 init_std: Optional[float] = None,
                 kinds: Sequence[str] = PAPER_KINDS,
                 loss: Union[dict, nn.Module] = dict(
                     type='mmpretrain.CrossEntropyLoss'),
                 loss_weights: Union[LossWeights, dict, None] = None,
                 init_cfg: Optional[dict] = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.exits = Exits(in_channels, num_classes, fkt, hidden_channels,
                           dropout, init_std, kinds)
        self.loss_weights = build_loss_weights(loss_weights,
                                               self.exits.num_exits)
        if not isinstance(loss, nn.Module):
            loss = MODELS.build(loss)
        self.loss_module = loss

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
        """Classify at every exit.

        Args:
            feats (Sequence): See :meth:`pre_logits`.

        Returns:
            tuple[Tensor]: Logits (B, K), shallow to deep.
        """
        return self.exits(self.pre_logits(feats))

    def loss(self, feats: Sequence[Any], data_samples: List[DataSample],
             **kwargs: Any) -> dict:
        """Losses of a batch.

        Args:
            feats (Sequence): See :meth:`pre_logits`.
            data_samples (list[DataSample]): With ``gt_label``, or with
                ``gt_score`` (soft targets, as mixup and cutmix make them).
            **kwargs: Passed to the classification loss.

        Returns:
            dict[str, Tensor]: See :meth:`loss_by_feat`.
        """
        return self.loss_by_feat(self(feats), data_samples, **kwargs)

    def loss_by_feat(self, all_logits: Sequence[Tensor],
                     data_samples: List[DataSample],
                     **kwargs: Any) -> Dict[str, Tensor]:
        """Losses from the logits of all exits, in single precision.

        Args:
            all_logits (Sequence[Tensor]): Logits (B, K), shallow to deep.
            data_samples (list[DataSample]): The targets.
            **kwargs: Passed to the classification loss.

        Returns:
            dict[str, Tensor]: Weighted ``loss_exit0``, ``loss_exit1``, ...
            and, where they have a weight, ``loss_distill0``, ...; for hard
            targets also the accuracies ``acc_exit0``, ... in percent.

        Raises:
            InputError: If a sample has several labels.
        """
        if 'gt_label' in data_samples[0]:
            check_one_label([sample.gt_label for sample in data_samples])
        if 'gt_score' in data_samples[0]:
            target = torch.stack([sample.gt_score for sample in data_samples])
        else:
            target = torch.cat([sample.gt_label for sample in data_samples])

        def criterion(logits: Tensor, target: Tensor) -> Tensor:
            return self.loss_module(
                logits, target, avg_factor=len(target), **kwargs)

        return exit_losses(all_logits, target, criterion, self.loss_weights)

    def predict(
        self,
        feats: Sequence[Any],
        data_samples: Optional[List[Optional[DataSample]]] = None
    ) -> List[DataSample]:
        """Predict at the last exit.

        The head knows no thresholds; :class:`DynPerceiverClassifier` does.

        Args:
            feats (Sequence): See :meth:`pre_logits`.
            data_samples (list[DataSample], optional): To be filled in.
                Defaults to None, new ones.

        Returns:
            list[DataSample]: See :meth:`predict_by_feat`.
        """
        all_logits = self(feats)
        num_exits = len(all_logits)
        last = fixed_exit_thresholds(num_exits - 1, num_exits)
        return self.predict_by_feat(
            select_exits(all_logits, last), data_samples, all_logits)

    def predict_by_feat(
            self,
            out: Prediction,
            data_samples: Optional[List[Optional[DataSample]]] = None,
            all_logits: Optional[Sequence[Tensor]] = None,
            macs: Optional[Sequence[int]] = None) -> List[DataSample]:
        """Write predictions into data samples.

        Args:
            out (Prediction): Outcome of an early-exiting pass.
            data_samples (list[DataSample], optional): To be filled in.
                Defaults to None, new ones.
            all_logits (Sequence[Tensor], optional): Logits (B, K) of each
                exit, if all were run. Defaults to None.
            macs (Sequence[int], optional): Cumulative MACs of each exit.
                Defaults to None, not known.

        Returns:
            list[DataSample]: See
            :func:`~mmdynperceiver.hosts.exit_head.fill_predictions`.
        """
        if data_samples is None:
            data_samples = [None] * len(out.logits)
        samples = [
            DataSample() if sample is None else sample
            for sample in data_samples
        ]
        return fill_predictions(samples, out, all_logits, macs)

    def _load_from_state_dict(self, state_dict: Dict[str, Any], prefix: str,
                              *args: Any) -> None:
        """Refuse weights of another number of classes."""
        check_classes(self.exits, state_dict, f'{prefix}exits.',
                      'model.head.num_classes')
        super()._load_from_state_dict(state_dict, prefix, *args)
