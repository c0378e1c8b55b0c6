# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The losses of a dense head, image by image."""
from typing import Any, Dict, List, Sequence, Union

import torch
from mmdet.models.utils import unpack_gt_instances
from mmdet.structures import DetDataSample
from torch import Tensor, nn

__all__ = ['image_losses', 'total_loss']


def image_losses(head: nn.Module, outputs: Sequence[Sequence[Tensor]],
                 data_samples: Sequence[DetDataSample]) -> Dict[str, Tensor]:
    """Losses (B,) of each image by itself, by their names.

    A dense head of MMDetection averages its losses over the positive anchors
    of all images that it gets, so it gets one at a time. ``outputs`` is what
    it returns: kinds of output, and for each the levels (B, C, h, w).
    """
    gts, ignored, metas = unpack_gt_instances(data_samples)
    rows: Dict[str, List[Tensor]] = {}
    for i, (gt, ignore, meta) in enumerate(zip(gts, ignored, metas)):
        single = [[level[i:i + 1] for level in levels] for levels in outputs]
        losses = head.loss_by_feat(*single, [gt], [meta], [ignore])
        for name, value in losses.items():
            if 'loss' in name:
                rows.setdefault(name, []).append(_sum(value))
    return {name: torch.stack(values) for name, values in rows.items()}


def _sum(value: Union[Tensor, Sequence[Any]]) -> Tensor:
    """A loss, or the sum of those of the levels."""
    if isinstance(value, Tensor):
        return value.mean()
    return torch.stack([_sum(part) for part in value]).sum()


def total_loss(losses: Dict[str, Tensor]) -> Tensor:
    """All losses of each image (B,)."""
    return torch.stack(tuple(losses.values())).sum(0)
