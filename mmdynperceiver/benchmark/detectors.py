# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Detectors in a benchmark: from normalised images to boxes."""
from functools import partial
from typing import Any, List, Optional, Sequence

import torch
from torch import Tensor, nn

from ..core import ExitPolicy, fixed_exit_thresholds
from .entries import BenchmarkEntry, Left

__all__ = ['detector_entry', 'export_detector_model']


def detector_entry(name: str,
                   mode: str,
                   model: Any,
                   image_shape: Sequence[int],
                   policy: Optional[ExitPolicy] = None) -> BenchmarkEntry:
    """Enter a detector that PyTorch runs.

    Args:
        name (str): Its name.
        mode (str): How it runs; the model is in that mode already.
        model (nn.Module): A detector of MMDetection, in eval mode, with early
            exits or without.
        image_shape (Sequence[int]): (3, H, W), for the MACs.
        policy (ExitPolicy, optional): Where images stop. Defaults to None, no
            dynamic mean.
    """

    thresholds: List[Any] = [None]
    if hasattr(model, 'policy'):
        count = model.policy.num_exits
        thresholds = [fixed_exit_thresholds(k, count) for k in range(count)]
        # Thresholds alone change: of other parts MACs would be counted anew.
        model.policy = ExitPolicy(count, criterion='learned')

    def detect(thresholds: Any, batch: Tensor) -> Left:
        if thresholds is not None:
            model.policy.set_thresholds(thresholds)
        found = model.predict(batch, _samples(batch), rescale=False)
        return Left(torch.tensor([one.get('exit_index', 0) for one in found]))

    def evidence(batch: Tensor) -> List[Tensor]:
        return [logits for _, logits in model._walk(batch)]

    return BenchmarkEntry(
        name, mode, [partial(detect, one) for one in thresholds], evidence,
        None if policy is None else partial(detect, policy.thresholds),
        _macs(model, image_shape))


def _samples(batch: Tensor) -> List[Any]:
    """What a detector asks to know of images (B, 3, H, W): that they are as
    they were."""
    from mmdet.structures import DetDataSample
    size = tuple(batch.shape[-2:])
    return [
        DetDataSample(
            metainfo=dict(
                ori_shape=size,
                img_shape=size,
                pad_shape=size,
                batch_input_shape=size,
                scale_factor=(1., 1.))) for _ in batch
    ]


def _macs(model: Any, shape: Sequence[int]) -> Optional[Sequence[int]]:
    """MACs to each exit; None for detectors of two stages, in which they
    depend on what is in an image."""
    if hasattr(model, 'roi_head'):
        return None
    from ..deploy.detector_graphs import detector_macs
    return detector_macs(model, shape)


def export_detector_model(model: nn.Module, shape: Sequence[int],
                          folder: str) -> None:
    """Export a detector for normalised images into a new folder.

    Raises:
        ValueError: If it is none that can be exported, see
            :func:`mmdynperceiver.deploy.export_detector.export_detector`.
    """
    from ..deploy.export_detector import box_settings, export_detector
    head: Any = getattr(model, 'bbox_head', None)
    number = box_settings(head)['num_classes']
    preprocessor: Any = model.data_preprocessor
    export_detector(
        model, folder,
        dict(
            size=list(shape[-2:]),
            mean=[0., 0., 0.],
            std=[1., 1., 1.],
            decoder='cv2',
            steps=[],
            padding=preprocessor.pad_size_divisor),
        getattr(model, 'policy', None), [str(k) for k in range(number)])
