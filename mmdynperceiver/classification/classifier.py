# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The classifier: the loop that joins trunk, exits and policy."""
from typing import Optional, Sequence, Tuple, Union

import torch
from mmpretrain.models.classifiers import ImageClassifier
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..hosts.exit_model import EarlyExitModel, build_head, refuse_neck

__all__ = ['DynPerceiverClassifier']


@MODELS.register_module()
class DynPerceiverClassifier(EarlyExitModel, ImageClassifier):
    """Dynamic Perceiver as an image classifier (arXiv 2306.11248).

    Args:
        backbone (dict): Config of :class:`DynPerceiverBackbone`.
        head (dict, optional): Config of :class:`DynPerceiverHead`; what
            depends on the backbone may be left out. None leaves the trunk
            alone, for feature extraction. Defaults to None.
        thresholds, exit_index, branch_first: See
            :class:`~mmdynperceiver.hosts.exit_model.EarlyExitModel`.
        neck (None): There is no place for one. Defaults to None.
        pretrained, train_cfg, data_preprocessor, init_cfg: As for
            :class:`ImageClassifier`; ``num_classes`` of the preprocessor is
            that of the head if left out.

    Raises:
        FileNotFoundError: If there is no such thresholds file.
        ValueError: If an argument does not fit.
    """

    def __init__(self,
                 backbone: Union[dict, nn.Module],
                 head: Union[dict, nn.Module, None] = None,
                 thresholds: Union[Sequence[float], str, None] = None,
                 exit_index: Optional[int] = None,
                 neck: None = None,
                 pretrained: Optional[str] = None,
                 train_cfg: Optional[dict] = None,
                 data_preprocessor: Union[dict, nn.Module, None] = None,
                 init_cfg: Optional[dict] = None,
                 exit: Optional[int] = None,
                 branch_first: float = 0.) -> None:
        refuse_neck(neck)
        if not isinstance(backbone, nn.Module):
            backbone = MODELS.build(backbone)
        if isinstance(head, dict):
            head = build_head(MODELS, 'mmpretrain.DynPerceiverHead', backbone,
                              head)
        if head is not None and not isinstance(data_preprocessor, nn.Module):
            data_preprocessor = _complete_preprocessor(data_preprocessor or {},
                                                       head.num_classes)
        super().__init__(
            backbone=backbone,
            head=head,
            pretrained=pretrained,
            train_cfg=train_cfg,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg)
        self.policy = self.make_policy(thresholds, exit_index, exit)
        self.make_branch_classifier(branch_first)

    def extract_feat(self,
                     inputs: Tensor,
                     stage: str = 'neck') -> Tuple[Tensor, ...]:
        """What the exits classify, of normalised images (B, 3, H, W).

        ``stage`` is 'backbone', 'neck' or 'pre_logits', all the same here.

        Returns:
            tuple[Tensor]: A vector (B, C) for each exit; where an exit reads
            features and latents, these follow each other in it.
        """
        if stage not in ('backbone', 'neck', 'pre_logits'):
            raise ValueError(f"stage must be one of 'backbone', 'neck', "
                             f"'pre_logits', got {stage!r}")
        return tuple(
            torch.cat(tuple(vectors), 1) for vectors in self.backbone(inputs))


def _complete_preprocessor(config: dict, num_classes: int) -> dict:
    """Fill in the number of classes, which mixup and cutmix need."""
    completed = {'type': 'mmpretrain.ClsDataPreprocessor', **config}
    if str(completed['type']).endswith('ClsDataPreprocessor'):
        given = completed.setdefault('num_classes', num_classes)
        if given is not None and given != num_classes:
            raise ValueError(
                f'data_preprocessor.num_classes is {given} and '
                f'model.head.num_classes is {num_classes}: leave the first '
                f'out, it follows the second')
    return completed
