# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""COCO's average precision of each exit, and of stopping early."""
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from mmdet.evaluation import CocoMetric
from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric

from ..engine import InputError, exit_statistics

__all__ = ['EarlyExitCocoMetric']

EMPTY = ('bbox_mAP', 'bbox_mAP_50')


class ExitResult(NamedTuple):
    """Where an image stopped, and what it cost.

    Args:
        exit_index (int): The exit, 0-based.
        macs (int, optional): MACs spent on the image.
        exit_macs (tuple[int]): MACs of each exit, if all were run.
    """

    exit_index: int
    macs: Optional[int] = None
    exit_macs: Tuple[int, ...] = ()


@METRICS.register_module()
class EarlyExitCocoMetric(BaseMetric):
    """Average precision of each exit, and precision and cost of stopping.

    For images of which all exits were run: ``exit0/bbox_mAP``,
    ``exit0/bbox_mAP_50``, ... and ``exit0/macs``. For all images, under the
    thresholds at hand: ``dynamic/bbox_mAP``, ..., the share of images that
    stopped at each exit, ``exit0/share``, ..., and ``dynamic/macs``, the mean
    MACs of one image, neck and head included.

    Args:
        num_exits (int): Number of exits. Defaults to 3.
        collect_device (str): 'cpu' or 'gpu', for distributed evaluation.
            Defaults to 'cpu'.
        prefix (str, optional): Prefix of all names. Defaults to None.
        **kwargs: Arguments of MMDetection's ``CocoMetric``, which does the
            evaluation: ``ann_file``, ``metric``, ``classwise``, ...
    """

    # Not None, which would log a warning: these names need no prefix.
    default_prefix = ''

    def __init__(self,
                 num_exits: int = 3,
                 collect_device: str = 'cpu',
                 prefix: Optional[str] = None,
                 **kwargs: Any) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.num_exits = num_exits
        names = [*(f'exit{k}' for k in range(num_exits)), 'dynamic']
        self.precision = {
            name:
            CocoMetric(collect_device=collect_device, prefix=name, **kwargs)
            for name in names
        }

    @property
    def dataset_meta(self) -> Optional[dict]:
        """Classes of the data set."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, meta: dict) -> None:
        self._dataset_meta = meta
        for metric in self.precision.values():
            metric.dataset_meta = meta

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the boxes of each image.

        Args:
            data_batch (Any): Not used.
            data_samples (Sequence[dict]): Predictions of a detector that
                stops early.
        """
        for sample in data_samples:
            if 'exit_index' not in sample:
                raise InputError(
                    'EarlyExitCocoMetric is for detectors that stop early, '
                    'the predictions of this one say no exit_index: use '
                    'CocoMetric')
            self.results.append(
                ExitResult(sample['exit_index'], sample.get('macs'),
                           tuple(sample.get('exit_macs', ()))))
            boxes = sample.get('exit_pred_instances', ())
            for k, instances in enumerate(boxes):
                self.precision[f'exit{k}'].process(
                    data_batch, [dict(sample, pred_instances=instances)])
        self.precision['dynamic'].process(data_batch, data_samples)

    def evaluate(self, size: int) -> Dict[str, float]:
        """Evaluate all images.

        Args:
            size (int): How many there are.

        Returns:
            dict[str, float]: See the class.
        """
        has_exits = bool(self.precision['exit0'].results)
        metrics: Dict[str, float] = {}
        for name, metric in self.precision.items():
            if name == 'dynamic' or has_exits:
                # The host says nothing where nothing was detected.
                metrics.update({f'{name}/{key}': 0. for key in EMPTY})
                metrics.update(metric.evaluate(size))
        metrics.update(super().evaluate(size))
        return metrics

    def compute_metrics(self, results: List[Sequence]) -> Dict[str, float]:
        """Sum up where the images stopped.

        Args:
            results (list[Sequence]): An :class:`ExitResult` each.
        """
        # Collecting across processes may have turned them into plain lists.
        samples = [ExitResult(*result) for result in results]
        return exit_statistics(samples, self.num_exits) if samples else {}
