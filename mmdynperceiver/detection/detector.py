# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A detector that stops early: the loop over trunk, exits and policy."""
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import torch
import torch.nn.functional as F
from mmdet.models import SingleStageDetector
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ..core import SegmentedTrunk, Trunk, count_macs
from ..core.early_exit import (ExitBatch, LoopState, early_exit_loop,
                               scatter_rows)
from ..core.segments import Half
from ..hosts.exit_model import EarlyExitModel
from .backbone import DynPerceiverDetBackbone
from .image_losses import image_losses, total_loss
from .pyramid import DetectionExits, as_tuple, merge_rows, select_state

__all__ = ['DynPerceiverDetector']


@MODELS.register_module()
class DynPerceiverDetector(EarlyExitModel, SingleStageDetector):
    """A single-stage detector in which easy images stop early.

    An image may stop where the first two exits of a classifier stand. The
    levels that it then lacks come from a light down-sampling of the last one
    that it has, so neck and head run once, on all images together. A small
    head on the pooled latents predicts what going deeper would gain in
    detection loss, and the image stops where that is too little.

    In training every image takes two ways: the whole network, and an early
    exit drawn for it. All parts learn together at the price of two passes of
    neck and head, and the two losses of one image are what the policy
    learns from. As each image has losses of its own, they are averaged over
    images, not over the positive anchors of the batch.

    Args:
        backbone (dict): Config of :class:`DynPerceiverDetBackbone` with both
            branches and the last z2x.
        neck (dict): Config of the neck.
        bbox_head (dict): Config of a dense head, such as RetinaHead.
        early_weight (float): Weight of the losses at the early exits.
            Defaults to 1.
        gain_weight (float): Weight of the policy's loss. Defaults to 1.
        thresholds, exit: See
            :class:`~mmdynperceiver.hosts.exit_model.EarlyExitModel`; compared
            with the sigmoid of the predicted gain's negative.
        train_cfg, test_cfg, data_preprocessor, init_cfg (dict, optional): As
            for :class:`SingleStageDetector`.

    Attributes:
        keep_losses (bool): Whether evaluating all exits also gives the
            detection loss of each, for which the images need their
            annotations. Defaults to False.

    Raises:
        FileNotFoundError: If there is no such thresholds file.
        ValueError: If an argument does not fit.
    """

    backbone: DynPerceiverDetBackbone
    criterion = 'learned'

    def __init__(self,
                 backbone: dict,
                 neck: dict,
                 bbox_head: dict,
                 early_weight: float = 1.,
                 gain_weight: float = 1.,
                 thresholds: Union[Sequence[float], str, None] = None,
                 exit_index: Optional[int] = None,
                 train_cfg: Optional[dict] = None,
                 test_cfg: Optional[dict] = None,
                 data_preprocessor: Union[dict, nn.Module, None] = None,
                 init_cfg: Optional[dict] = None,
                 exit: Optional[int] = None) -> None:
        super().__init__(
            backbone=backbone,
            neck=neck,
            bbox_head=bbox_head,
            train_cfg=train_cfg,
            test_cfg=test_cfg,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg)
        net = self.backbone.net
        _check_trunk(net)
        # The exits behind the last feature half serve classifiers only.
        self._segments: Tuple[Tuple[Half, ...],
                              ...] = (net.halves(0), net.halves(1),
                                      net.halves(2) + net.halves(3))
        self.exits = DetectionExits(net.channels, net.strides,
                                    self.backbone.level_maps,
                                    [net.exit_channels[k][0] for k in (0, 1)],
                                    self.bbox_head.num_classes)
        self.early_weight = early_weight
        self.gain_weight = gain_weight
        self.policy = self.make_policy(thresholds, exit_index, exit)
        self.keep_losses = False

    def exit_parts(self) -> Tuple[SegmentedTrunk, DetectionExits]:
        """The trunk and what the exits have of their own."""
        return self.backbone.net, self.exits

    def _walk(self,
              images: Tensor) -> Iterator[Tuple[Dict[int, Tensor], Tensor]]:
        """Go from exit to exit: its pyramid, and what is decided on."""
        steps = self._steps(images)
        for logits, maps in zip(steps, steps):
            yield maps, logits

    def _steps(self, images: Tensor) -> Iterator[Any]:
        """What is decided on at an exit, its pyramid, and so on."""
        state, maps = self.backbone.net.initial_state(images), {}
        for index, halves in enumerate(self._segments):
            state, finished = self.backbone.advance(halves, state)
            given = self.backbone.net.as_float32(state)
            yield self.exits.logits(index, given)
            maps.update(finished)
            whole = {**maps, **self.exits.fill(index, given)}
            yield {i: whole[i] for i in self.backbone.level_maps}

    def _feats(self, maps: Dict[int, Tensor]) -> Tuple[Tensor, ...]:
        """What the head reads, from the levels of a pyramid."""
        return self.neck(as_tuple(maps, self.backbone.level_maps))

    def loss(self, batch_inputs: Tensor,
             batch_data_samples: List[DetDataSample]) -> Dict[str, Tensor]:
        """Losses of normalised images (B, 3, H, W) with their annotations.

        Returns:
            dict[str, Tensor]: Those of the head at the last exit under its
            own names, at the early exits as ``..._early``, and those of the
            policy, ``loss_gain0`` and ``loss_gain1``; and ``gain0`` and
            ``gain1``, the mean loss that going deeper saved.
        """
        self.drop_loaded_thresholds()
        pyramids, logits = zip(*self._walk(batch_inputs))
        batch = len(batch_inputs)
        shallow = torch.rand(batch, device=batch_inputs.device) < 0.5
        early = merge_rows(pyramids[0], pyramids[1], shallow)
        both = {i: torch.cat([pyramids[2][i], early[i]]) for i in early}
        parts = image_losses(self.bbox_head, self.bbox_head(self._feats(both)),
                             [*batch_data_samples, *batch_data_samples])
        losses = {name: value[:batch].mean() for name, value in parts.items()}
        for name, value in parts.items():
            losses[f'{name}_early'] = self.early_weight * value[batch:].mean()
        total = total_loss(parts).detach()
        gains = total[batch:] - total[:batch]
        for index, chosen in enumerate((shallow, ~shallow)):
            number = chosen.sum().clamp(min=1)
            errors = F.smooth_l1_loss(
                -logits[index].squeeze(1), gains, reduction='none', beta=.1)
            losses[f'loss_gain{index}'] = \
                self.gain_weight * (errors * chosen).sum() / number
            losses[f'gain{index}'] = (gains * chosen).sum() / number
        return losses

    def predict(self,
                batch_inputs: Tensor,
                batch_data_samples: List[DetDataSample],
                rescale: bool = True) -> List[DetDataSample]:
        """Detect in normalised images (B, 3, H, W), stopping by the policy.

        Args:
            rescale (bool): Whether boxes are those of the image as it was
                before it was resized. Defaults to True.

        Returns:
            list[DetDataSample]: With ``pred_instances``, ``exit_index``
            (int, 0-based), ``exit_confidence`` (float) and ``macs`` (int);
            if all exits are evaluated, with ``exit_pred_instances`` (a list
            with one entry for each exit), ``exit_logits`` (num_exits, 1) and
            ``exit_macs`` (tuple), and with ``exit_losses`` (num_exits,) if
            they are kept.
        """
        macs = self.macs_per_exit(batch_inputs.shape[1:])
        if self.evaluate_all_exits:
            return self._predict_all(batch_inputs, batch_data_samples, rescale,
                                     macs)
        maps, exit_index, confidence = self._leave_early(batch_inputs)
        results = self.bbox_head.predict(
            self._feats(maps), batch_data_samples, rescale=rescale)
        return self._write(batch_data_samples, results, exit_index, confidence,
                           macs)

    def _leave_early(
            self, images: Tensor) -> Tuple[Dict[int, Tensor], Tensor, Tensor]:
        """The pyramid, each image of it computed only as deep as needed."""
        levels, batch = self.backbone.level_maps, len(images)
        maps: Dict[int, Tensor] = {}
        finished: Dict[int, Tensor] = {}

        def step(index: int, carried: LoopState) -> Tuple[LoopState, Tensor]:
            nonlocal finished
            state, finished = self.backbone.advance(self._segments[index],
                                                    carried.state)
            return carried._replace(state=state), self.exits.logits(
                index, self.backbone.net.as_float32(state))

        def write(rows: Optional[Tensor], parts: Dict[int, Tensor]) -> None:
            for i in parts.keys() & set(levels):
                maps[i] = scatter_rows(maps.get(i), rows, parts[i], batch)

        def keep(arrived: ExitBatch) -> None:
            rows = arrived.rows
            write(rows, finished)
            gone = arrived.leaves.nonzero().squeeze(1)
            if arrived.exit == self.exits.num_exits - 1 or len(gone) == 0:
                return
            state = select_state(arrived.carried.state, gone)
            write(
                gone if rows is None else rows.index_select(0, gone),
                self.exits.fill(arrived.exit,
                                self.backbone.net.as_float32(state)))

        start = LoopState(self.backbone.net.initial_state(images))
        return (maps, *early_exit_loop(self.policy, start, step, keep))

    def _predict_all(self, images: Tensor, samples: List[DetDataSample],
                     rescale: bool, macs: Tuple[int,
                                                ...]) -> List[DetDataSample]:
        """Run every exit on every image, and replay the thresholds."""
        metas = [sample.metainfo for sample in samples]
        all_results: List[List[InstanceData]] = []
        logits, losses = [], []
        for maps, evidence in self._walk(images):
            logits.append(evidence)
            outputs = self.bbox_head(self._feats(maps))
            if self.keep_losses:
                losses.append(
                    total_loss(image_losses(self.bbox_head, outputs, samples)))
            all_results.append(
                self.bbox_head.predict_by_feat(
                    *outputs, batch_img_metas=metas, rescale=rescale))
        out = self.policy.replay(logits)
        chosen = [
            all_results[index][row]
            for row, index in enumerate(out.exit_index.tolist())
        ]
        samples = self._write(samples, chosen, out.exit_index, out.confidence,
                              macs)
        # (num_exits, B, 1) -> (B, num_exits, 1)
        stacked = torch.stack(logits, 1)
        for row, sample in enumerate(samples):
            sample.exit_pred_instances = [found[row] for found in all_results]
            sample.exit_logits = stacked[row]
            sample.exit_macs = macs
            if self.keep_losses:
                sample.exit_losses = torch.stack([x[row] for x in losses])
        return samples

    def _write(self, samples: List[DetDataSample], results: List[InstanceData],
               exit_index: Tensor, confidence: Tensor,
               macs: Tuple[int, ...]) -> List[DetDataSample]:
        """Write predictions into data samples."""
        samples = self.add_pred_to_datasample(samples, results)
        for sample, index, conf in zip(samples, exit_index.tolist(),
                                       confidence.tolist()):
            sample.exit_index = index
            sample.exit_confidence = conf
            sample.macs = macs[index]
        return samples

    def count_macs(self, input_shape: Sequence[int]) -> Tuple[int, ...]:
        """MACs of an image (3, H, W) that stops at each exit.

        They are those of the backbone, filling, neck and head.
        """
        counts = count_macs(self, _counted, input_shape)
        # What it takes to an exit, to fill, and so on; neck and head at last.
        parts = [b - a for a, b in zip((0, *counts), counts)]
        way, fill, detect = parts[:-1:2], parts[1:-1:2], parts[-1]
        return tuple(
            sum(way[:k + 1]) + fill[k] + detect for k in range(len(way)))


def _counted(model: 'DynPerceiverDetector', images: Tensor) -> Iterator[Any]:
    """The way to each exit and its filling in turn; neck and head at last."""
    for step in model._steps(images):
        yield step
    yield model.bbox_head(model._feats(step))


def _check_trunk(net: nn.Module) -> None:
    """Refuse a trunk without the exits that a detector stops at."""
    if not isinstance(net, Trunk) or net.num_segments != 4 or \
            net.last_z2x is None:
        raise ValueError(
            "a detector that stops early needs a backbone with both branches "
            "and the last z2x, got other options: leave out branches, exits "
            "and last_z2x, or use an ordinary detector such as RetinaNet")
