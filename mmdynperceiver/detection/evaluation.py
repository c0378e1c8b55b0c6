# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What all exits of a detector find in a data set, and what that is worth."""
import io
import os
from contextlib import redirect_stdout
from functools import lru_cache
from typing import (Any, Dict, Iterable, Iterator, List, NamedTuple, Optional,
                    Sequence)

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS, init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ..calibration.exit_logits import ExitLogits
from ..calibration.outcomes import Outcome, check_shares
from ..core.complexity import expected_cost
from ..core.policy import leave_at
from ..datasets.class_names import (check_data_classes, class_names,
                                    config_num_classes)
from ..deploy.detection import AnnotatedImages
from ..errors import InputError, first_few, input_errors
from ..hosts.build import (LabelledData, annotation_file, others_of,
                           split_config)
from ..hosts.exit_logits import all_exits, mean_macs, path_of
from ..progress import track
from .metrics import EMPTY, CheckedCocoMetric

__all__ = [
    'ExitDetections', 'PrecisionJudge', 'annotated_images',
    'average_precisions', 'collect_detections', 'detection_data',
    'iter_detections', 'iter_exit_losses', 'truth_of'
]

# Stopping by chance depends on the draw: the mean of so many.
DRAWS = 2


class ExitDetections(NamedTuple):
    """What all exits of a detector find."""

    # What the policy decides on; the utility is minus the detection loss.
    exits: ExitLogits
    found: List[List[InstanceData]]  # of each image, the boxes of each exit
    samples: List[Dict[str, Any]]  # img_id, ori_shape and img_path of each


class PrecisionJudge:
    """COCO's box AP under a policy: its utility on a whole data set.

    Args:
        detections (ExitDetections): What all exits find.
        ann_file (str): The annotations in COCO's format, read once.
        classes (Sequence[str]): Names of the classes.
    """

    def __init__(self, detections: ExitDetections, ann_file: str,
                 classes: Sequence[str]) -> None:
        self.detections = detections
        outcomes = detections.exits.outcomes('learned')
        self.confidence, self.cost = outcomes.confidence, outcomes.cost
        # The data set has been checked as it asks for.
        self.metric = CheckedCocoMetric(ann_file, on_bad_box='skip')
        self.metric.dataset_meta = dict(classes=tuple(classes))

    def exit_indices(self, thresholds: Sequence[float]) -> Tensor:
        """Where each image stops (N,), by thresholds for all exits but one."""
        return leave_at(self.confidence, thresholds)

    def precision(self, exit_index: Tensor) -> Dict[str, float]:
        """COCO's average precisions, if each image stops at some exit (N,).

        These are ``bbox_mAP``, ``bbox_mAP_50``, ..., in [0, 1].
        """
        return average_precisions(self.metric, [
            dict(sample, pred_instances=exits[index]) for sample, exits, index
            in zip(self.detections.samples, self.detections.found,
                   exit_index.tolist())
        ])

    def outcome(self, exit_index: Tensor) -> Outcome:
        """What it brings if each image stops at some exit (N,)."""
        counts = exit_index.bincount(minlength=len(self.cost))
        shares = tuple((counts / counts.sum()).tolist())
        return Outcome(
            self.precision(exit_index)['bbox_mAP'], shares,
            expected_cost(counts.tolist(), self.cost))

    def evaluate(self, thresholds: Sequence[float]) -> Outcome:
        """What thresholds bring, one for each exit but the last."""
        return self.outcome(self.exit_indices(thresholds))

    def at_random(self, shares: Sequence[float]) -> Outcome:
        """What stopping by chance brings, with these shares: some draws."""
        shares = check_shares(shares, len(self.cost))
        number = self.confidence.shape[1]
        ends = (number * torch.tensor(shares).cumsum(0)).round().long()
        exit_index = torch.searchsorted(ends, torch.arange(number), right=True)
        draws = []
        for seed in range(DRAWS):
            generator = torch.Generator().manual_seed(seed)
            order = torch.randperm(number, generator=generator)
            draws.append(self.outcome(exit_index[order]))
        return draws[0]._replace(
            utility=sum(draw.utility for draw in draws) / DRAWS)

    @lru_cache(None)
    def static(self) -> List[Outcome]:
        """Stopping always at the same exit, for each."""
        every = torch.ones(self.confidence.shape[1], dtype=torch.long)
        return [self.outcome(k * every) for k in range(len(self.cost))]


def average_precisions(metric: CheckedCocoMetric,
                       results: Sequence[dict]) -> Dict[str, float]:
    """COCO's average precisions of what was found in each image.

    These are ``bbox_mAP``, ``bbox_mAP_50``, ..., in [0, 1].
    """
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('WARNING')
    try:
        with redirect_stdout(io.StringIO()):  # COCO's tables
            metric.process({}, results)
            precisions = metric.evaluate(len(results))
    finally:
        logger.setLevel(level)
    found = {key.partition('/')[2]: v for key, v in precisions.items()}
    # Nothing at all where nothing was detected.
    return {**dict.fromkeys(EMPTY, 0.), **found}


def annotated_images(config: Config, folder: str,
                     classes: Sequence[str]) -> AnnotatedImages:
    """Images in a folder, with the test annotations of a config.

    Raises:
        InputError: If the config has none, or an image is not there.
    """
    path = annotation_file(config, 'test')
    if not path:
        raise InputError('the config has no test_dataloader with an ann_file, '
                         'by which images in a folder could be judged')
    metric = CheckedCocoMetric(path, on_bad_box='skip')
    metric.dataset_meta = dict(classes=tuple(classes))
    images = {
        os.path.join(folder, image['file_name']): image
        for image in metric._coco_api.imgs.values()
    }
    missing = [file for file in images if not os.path.exists(file)]
    if missing:
        raise InputError(
            f'{len(missing)} of the {len(images)} images that {path!r} lists '
            f'are not in {folder!r}: {first_few(missing)}')

    def precision(found: Sequence[Any]) -> float:
        results = [
            dict(
                img_id=images[file]['id'],
                ori_shape=(images[file]['height'], images[file]['width']),
                img_path=file,
                pred_instances=InstanceData(
                    bboxes=torch.from_numpy(boxes.boxes),
                    scores=torch.from_numpy(boxes.scores),
                    labels=torch.from_numpy(boxes.labels)))
            for file, boxes in found
        ]
        return average_precisions(metric, results)['bbox_mAP']

    return AnnotatedImages(list(images), precision)


def detection_data(config: Config,
                   split: str,
                   known: Optional[Sequence[str]] = None) -> LabelledData:
    """The images of a split, with their own pipeline.

    ``known`` are the names of the classes in the checkpoint.

    Raises:
        InputError: If the data are not there, have other classes than the
            model, or no boxes.
    """
    with input_errors():
        init_default_scope(config.get('default_scope') or 'mmdet')
        dataset = DATASETS.build(split_config(config, split))
        infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    num_classes = config_num_classes(config)
    if num_classes is not None:
        check_data_classes(f'{split} data', dataset, num_classes, known)
    if not infos:
        raise InputError('the data set holds no images')
    if all(box['ignore_flag'] for info in infos for box in info['instances']):
        raise InputError(
            f'none of the {len(infos)} images has a box that is no crowd, so '
            f'there is nothing to judge detections by')
    return LabelledData(dataset,
                        getattr(dataset, 'data_root', '') or '',
                        [path_of(info) for info in infos], [0] * len(infos),
                        class_names(dataset), [others_of(i) for i in infos])


def truth_of(data: LabelledData, index: int) -> InstanceData:
    """The annotated boxes of an image that are no crowd, in its own pixels."""
    boxes = [
        instance for instance in data.dataset.get_data_info(index)['instances']
        if not instance['ignore_flag']
    ]
    return InstanceData(
        bboxes=torch.tensor([box['bbox'] for box in boxes]).reshape(-1, 4),
        labels=torch.tensor([box['bbox_label'] for box in boxes]).long())


@torch.no_grad()
def iter_detections(model: nn.Module,
                    batches: Iterable[Any]) -> Iterator[ExitDetections]:
    """Run all exits of a detector over batch after batch.

    The model is left in eval mode; the pipeline of the batches loads
    annotations, and before it changes the image.

    Raises:
        InputError: If there are no annotations.
    """
    with all_exits(model, 'keep_losses') as model:
        for batch in batches:
            # Without LoadAnnotations they are there, but hold nothing.
            if 'bboxes' not in batch['data_samples'][0].get(
                    'gt_instances', ()):
                raise InputError(
                    'stopping early is judged by the detection loss, and the '
                    "images come without annotations: put LoadAnnotations "
                    'before Resize in the pipeline of the data')
            found = [sample.cpu() for sample in model.test_step(batch)]
            # [(num_exits, 1)] * B -> (num_exits, B, 1)
            logits = torch.stack([s.exit_logits for s in found], 1)
            exits = ExitLogits(
                tuple(logits), None, [path_of(s) for s in found],
                mean_macs(found), -torch.stack([s.exit_losses for s in found]))
            names = ('img_id', 'ori_shape', 'img_path')
            yield ExitDetections(exits, [s.exit_pred_instances for s in found],
                                 [{
                                     name: s.get(name)
                                     for name in names
                                 } for s in found])


def iter_exit_losses(model: nn.Module,
                     batches: Iterable[Any]) -> Iterator[ExitLogits]:
    """The same without the boxes: all that calibration needs."""
    return (part.exits for part in iter_detections(model, batches))


def collect_detections(model: nn.Module,
                       batches: Iterable[Any],
                       description: str = 'evaluating',
                       total: Optional[int] = None) -> ExitDetections:
    """Run all exits over a data set, with a bar for ``total`` batches.

    Raises:
        InputError: If there are no images, or no annotations.
    """
    parts = list(
        iter_detections(model,
                        track(batches, description, total, transient=True)))
    if not parts:
        raise InputError('the data set holds no images')
    exits, found, samples = zip(*parts)
    return ExitDetections(
        ExitLogits.join(exits), sum(found, []), sum(samples, []))
