# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What all exits of a detector find in a data set, and what that is worth."""
import io
from contextlib import redirect_stdout
from typing import (Any, Dict, List, NamedTuple, Optional, Sequence, Tuple,
                    Union)

import torch
from mmengine.structures import InstanceData
from rich.progress import track
from torch import Tensor, nn

from ..calibration.held_out import HeldOut, evaluate
from ..core import fixed_exit_thresholds
from ..core.criteria import confidences
from ..core.policy import leave_at
from ..errors import InputError
from ..hosts.wrappers import unwrap_model
from ..report.sweep import SweepRow
from .detector import CRITERION
from .metrics import EMPTY, CheckedCocoMetric

__all__ = ['ExitDetections', 'collect_detections', 'random_exits']

Truth = Union[str, CheckedCocoMetric]


class ExitDetections(NamedTuple):
    """What all exits of a detector find.

    Args:
        logits (Tensor): What the policy decides on (num_exits, N).
        losses (Tensor): The detection loss (num_exits, N).
        found (list[list[InstanceData]]): For each image the boxes of each
            exit.
        samples (list[dict]): For each image ``img_id``, ``ori_shape`` and
            ``img_path``.
        macs (tuple[float]): Mean MACs of one image for each exit.
        classes (tuple[str]): Names of the classes.
    """

    logits: Tensor
    losses: Tensor
    found: List[List[InstanceData]]
    samples: List[Dict[str, Any]]
    macs: Tuple[float, ...]
    classes: Tuple[str, ...]

    @property
    def held_out(self) -> HeldOut:
        """For the solvers; an exit is the better, the less its loss."""
        conf = confidences([row[:, None] for row in self.logits], CRITERION)
        return HeldOut(conf, -self.losses)

    def exit_indices(self, thresholds: Sequence[float]) -> Tensor:
        """Where each image stops (N,).

        Args:
            thresholds (Sequence[float]): One for each exit but the last.
        """
        return leave_at(self.held_out.confidences, thresholds)

    def metric(self, ann_file: str) -> CheckedCocoMetric:
        """What precisions are measured by, to read the file only once.

        Args:
            ann_file (str): The annotations in COCO's format.
        """
        # The data set has been checked as it asks for.
        metric = CheckedCocoMetric(ann_file, on_bad_box='skip')
        metric.dataset_meta = dict(classes=self.classes)
        return metric

    def precision(self, exit_index: Tensor, truth: Truth) -> Dict[str, float]:
        """COCO's average precisions, if each image stops at some exit.

        Args:
            exit_index (Tensor): Where each image stops (N,).
            truth (str | CheckedCocoMetric): The annotations in COCO's
                format, or what :meth:`metric` has read of them.

        Returns:
            dict[str, float]: ``bbox_mAP``, ``bbox_mAP_50``, ..., in [0, 1].
        """
        metric = self.metric(truth) if isinstance(truth, str) else truth
        results = [
            dict(sample, pred_instances=exits[index])
            for sample, exits, index in zip(self.samples, self.found,
                                            exit_index.tolist())
        ]
        with redirect_stdout(io.StringIO()):  # COCO's tables
            metric.process({}, results)
            precisions = metric.evaluate(len(results))
        found = {key.partition('/')[2]: v for key, v in precisions.items()}
        # Nothing at all where nothing was detected.
        return {**dict.fromkeys(EMPTY, 0.), **found}

    def row(
        self,
        series: str,
        data: str,
        exit_index: Tensor,
        truth: Truth,
        budget: Optional[float] = None,
        thresholds: Sequence[float] = ()
    ) -> SweepRow:
        """A row of the report, with the average precision as accuracy.

        Args:
            series (str): Name of the policy.
            data (str): Name of the data set.
            exit_index (Tensor): Where each image stops (N,).
            truth (str | CheckedCocoMetric): See :meth:`precision`.
            budget (float, optional): What it was solved for. Defaults to
                None.
            thresholds (Sequence[float]): Defaults to nothing.
        """
        num_exits = len(self.macs)
        counts = torch.bincount(exit_index, minlength=num_exits)
        shares = tuple((counts / counts.sum()).tolist())
        macs = sum(s * cost for s, cost in zip(shares, self.macs))
        return SweepRow(series, data, budget, macs, None,
                        self.precision(exit_index, truth)['bbox_mAP'], shares,
                        tuple(thresholds))

    def static_rows(self, data: str, truth: Truth) -> List[SweepRow]:
        """Stopping always at the same exit.

        Args:
            data (str): Name of the data set.
            truth (str | CheckedCocoMetric): See :meth:`precision`.
        """
        return [
            self.row(f'exit {k}', data,
                     torch.full((len(self.found), ), k, dtype=torch.long),
                     truth) for k in range(len(self.macs))
        ]

    def mean_loss(self, thresholds: Sequence[float]) -> float:
        """Mean detection loss under thresholds.

        Args:
            thresholds (Sequence[float]): One for each exit but the last.
        """
        return -evaluate(self.held_out, thresholds, self.macs).accuracy

    def exit_losses(self) -> List[float]:
        """Mean detection loss of each exit."""
        return [
            self.mean_loss(fixed_exit_thresholds(k, len(self.macs)))
            for k in range(len(self.macs))
        ]


def random_exits(exit_index: Tensor, seed: int = 0) -> Tensor:
    """As many images at each exit, but by chance.

    Args:
        exit_index (Tensor): Where each image stops (N,).
        seed (int): Which of the ways. Defaults to 0.
    """
    generator = torch.Generator().manual_seed(seed)
    return exit_index[torch.randperm(len(exit_index), generator=generator)]


@torch.no_grad()
def collect_detections(model: nn.Module,
                       dataloader: Any,
                       description: str = 'evaluating') -> ExitDetections:
    """Run all exits over a data set, with a progress bar.

    Args:
        model (nn.Module): A detector that stops early; it is left in eval
            mode.
        dataloader (Iterable): Yields what ``model.test_step`` takes. The
            pipeline loads annotations, and before it changes the image.
        description (str): Stands beside the bar. Defaults to 'evaluating'.

    Returns:
        ExitDetections: In the order of the data.

    Raises:
        InputError: If there are no images, no annotations, or no boxes.
    """
    model = unwrap_model(model).eval()
    before = model.evaluate_all_exits, model.keep_losses
    model.evaluate_all_exits = model.keep_losses = True
    found, num_boxes = [], 0
    try:
        for batch in track(dataloader, description, transient=True):
            # Without LoadAnnotations they are there, but hold nothing.
            if 'bboxes' not in batch['data_samples'][0].get(
                    'gt_instances', ()):
                raise InputError(
                    'stopping early is judged by the detection loss, and the '
                    "images come without annotations: put LoadAnnotations "
                    'before Resize in the pipeline of the data')
            num_boxes += sum(
                len(s.gt_instances) for s in batch['data_samples'])
            found += [sample.cpu() for sample in model.test_step(batch)]
    finally:
        model.evaluate_all_exits, model.keep_losses = before
    if not found:
        raise InputError('the data set holds no images')
    if not num_boxes:
        raise InputError(
            f'none of the {len(found)} images has a box that is no crowd, so '
            f'there is nothing to judge detections by')
    macs = zip(*(sample.exit_macs for sample in found))
    return ExitDetections(
        torch.stack([s.exit_logits.squeeze(1) for s in found], 1),
        torch.stack([s.exit_losses for s in found], 1),
        [s.exit_pred_instances for s in found], [{
            key: s.get(key)
            for key in ('img_id', 'ori_shape', 'img_path')
        } for s in found], tuple(sum(column) / len(found) for column in macs),
        tuple(dataloader.dataset.metainfo['classes']))
