# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""COCO's average precision, against checked annotations, of each exit."""
import copy
import os
from typing import Any, Dict, List, Optional, Sequence, Set

from mmdet.evaluation import CocoMetric
from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric
from mmengine.fileio import get_local_path
from mmengine.logging import print_log

from ..errors import InputError
from ..hosts.metrics import SampleResult, check_views, exit_statistics
from .annotations import AnnotationChecks
from .coco_file import read_annotations
from .datasets import check_classes, index_annotations

__all__ = ['CheckedCocoMetric', 'EarlyExitCocoMetric']

EMPTY = ('bbox_mAP', 'bbox_mAP_50')


@METRICS.register_module()
class CheckedCocoMetric(CocoMetric):
    """MMDetection's ``CocoMetric`` that checks what it evaluates against.

    Boxes are evaluated against as they are in the file, as COCO's own
    evaluation does; those that training could not use are counted.

    Args:
        ann_file (str, optional): The annotations in COCO's format. Defaults
            to None: those of the data set.
        on_bad_box (str): What to do with an annotation that cannot be
            evaluated against, such as one without a box: 'raise' an error,
            or 'skip' it and count how many. Defaults to 'raise'.
        **kwargs: As for ``CocoMetric``.

    Raises:
        InputError: If the file is not fit to evaluate against, lacks a
            class, has the classes in another order, or is not that of the
            images.
    """

    def __init__(self,
                 ann_file: Optional[str] = None,
                 on_bad_box: str = 'raise',
                 **kwargs: Any) -> None:
        super().__init__(ann_file=None, **kwargs)
        self.ann_file = ann_file
        self.on_bad_box = on_bad_box
        # Numbers of images that were too few, and told; copies share it.
        self._told: Set[int] = set()
        if ann_file is None:
            return
        try:
            with get_local_path(ann_file, self.backend_args) as path:
                content = read_annotations(path, ann_file)
        except FileNotFoundError as error:
            raise InputError(
                f'there is no annotation file {ann_file!r}') from error
        checks = AnnotationChecks(
            ann_file, on_bad_box, 'segm' in self.metrics, evaluation=True)
        checks(content)
        if not self.format_only and all(
                annotation['iscrowd']
                for annotation in content['annotations']):
            what = 'only crowds' if content['annotations'] else 'no annotation'
            raise InputError(f'{ann_file!r} lists {what}, so there is nothing '
                             f'to evaluate against')
        self._coco_api = index_annotations(content)

    @property
    def dataset_meta(self) -> Optional[dict]:
        """Classes of the data set."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, meta: dict) -> None:
        if self.ann_file is not None:
            check_classes(self._coco_api.dataset, meta['classes'],
                          self.ann_file)
        self._dataset_meta = meta

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the boxes of each image, if it is one of the file."""
        for sample in data_samples if self.ann_file is not None else ():
            entry = self._coco_api.imgs.get(sample['img_id'])
            path = sample.get('img_path')
            if entry is None or path and os.path.basename(
                    path) != os.path.basename(entry['file_name']):
                found = repr(entry['file_name']) if entry else 'no image'
                raise InputError(
                    f'{self.ann_file!r} has {found} under the id '
                    f'{sample["img_id"]!r} of {path!r}: give the evaluator '
                    f"the data set's ann_file")
        super().process(data_batch, data_samples)

    def compute_metrics(self, results: list) -> Dict[str, float]:
        """Evaluate all images; tell once if some are missing."""
        number = len(self._coco_api.imgs) if self._coco_api else len(results)
        if len(results) < number and len(results) not in self._told:
            self._told.add(len(results))
            print_log(
                f'{len(results):,} of the {number:,} images of '
                f'{self.ann_file!r} were evaluated, and the others count as '
                f'images in which nothing was found', 'current', 30)
        return super().compute_metrics(results)


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
        collect_device, prefix: As for mmengine's ``BaseMetric``.
        **kwargs: Arguments of :class:`CheckedCocoMetric`, which does the
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
        first = CheckedCocoMetric(
            collect_device=collect_device, prefix=names[0], **kwargs)
        self.ann_file = first.ann_file
        # The file is read and checked once.
        self.precision = {name: copy.copy(first) for name in names}
        for name, metric in self.precision.items():
            metric.prefix, metric.results = name, []

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
        """Keep the boxes and the exit of each image."""
        if data_samples:
            check_views(data_batch, data_samples)
        for sample in data_samples:
            if 'exit_index' not in sample:
                raise InputError(
                    'EarlyExitCocoMetric is for detectors that stop early, '
                    'the predictions of this one say no exit_index: use '
                    'CocoMetric')
            self.results.append(SampleResult.of(sample))
            boxes = sample.get('exit_pred_instances', ())
            for k, instances in enumerate(boxes):
                self.precision[f'exit{k}'].process(
                    data_batch, [dict(sample, pred_instances=instances)])
        self.precision['dynamic'].process(data_batch, data_samples)

    def evaluate(self, size: int) -> Dict[str, float]:
        """Evaluate all images, ``size`` of them; see the class."""
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
        """Sum up where the images stopped."""
        # Collecting across processes may have turned them into plain lists.
        samples = [SampleResult(*result) for result in results]
        return exit_statistics(samples, self.num_exits) if samples else {}
