# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""FrameExit for MMAction2: a video leaves after as many frames as it needs."""
import math
from typing import (Any, Callable, Dict, Iterator, List, Optional, Sequence,
                    Tuple)

import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from torch import Tensor, nn

from ..core import ExitPolicy, Prediction, count_macs
from ..core.early_exit import LoopState, early_exit_loop, scatter_rows
from ..core.networks.frame_exit import ExitGate, FrameExit, FrameState
from ..hosts.trunk_backbone import TrunkBackbone
from .head import DynPerceiverTSMHead
from .lazy_video import LazyVideo
from .recognizer import DynPerceiverRecognizer

__all__ = ['FrameExitBackbone', 'FrameExitHead', 'FrameExitRecognizer']

# Frames (B, 3, H, W) of an exit's number and the first field of the state.
Load = Callable[[int, Tensor], Tensor]


@MODELS.register_module()
class FrameExitBackbone(TrunkBackbone):
    """A convolutional network that looks at one frame after the other.

    Args:
        arch, frozen_stages, norm_eval, init_cfg: See
            :class:`~mmdynperceiver.hosts.trunk_backbone.TrunkBackbone`; the
            checkpoint may be that of an image classifier (``ConvBackbone``).
        **kwargs: Arguments of
            :class:`mmdynperceiver.core.networks.FrameExit`: ``num_frames``,
            ``hidden``, ``width`` and ``drop_path_rate``.

    Example:
        >>> import torch
        >>> from mmdynperceiver.recognition import FrameExitBackbone
        >>> backbone = FrameExitBackbone('resnet18', width=0.25, num_frames=2,
        ...                              hidden=8)
        >>> feats = backbone(torch.rand(3 * 2, 3, 64, 64))
        >>> [[tuple(v.shape) for v in vectors] for vectors in feats]
        [[(3, 8)], [(3, 8)]]
    """

    registry = MODELS
    make_trunk = FrameExit

    @property
    def num_segments(self) -> int:
        """Frames of a video."""
        return self.net.num_segments


@MODELS.register_module()
class FrameExitHead(DynPerceiverTSMHead):
    """A classifier and a gate for each frame of :class:`FrameExitBackbone`.

    The gates learn, together with all else, from labels of their own: a video
    may leave where the classifier's loss is at most ``beta * exp(n / 2)``
    after n frames.

    Args:
        beta (float): The larger, the earlier videos leave. Defaults to 1e-4.
        first_threshold (float): The largest probability at which a video
            leaves after its first frame, where there is nothing to compare.
            Defaults to 0.99.
        loss_weights: As of :class:`DynPerceiverTSMHead`. Defaults to None,
            the mean of the exits' losses.
        **kwargs: As of :class:`DynPerceiverTSMHead`.

    Raises:
        ValueError: If an argument does not fit.
    """

    def __init__(self,
                 num_classes: int,
                 in_channels: Sequence[Sequence[int]],
                 beta: float = 1e-4,
                 first_threshold: float = 0.99,
                 loss_weights: Any = None,
                 **kwargs: Any) -> None:
        if not beta >= 0:
            raise ValueError(f'beta must be at least 0, got {beta!r}')
        if not 0 <= first_threshold <= 1:
            raise ValueError(f'first_threshold must be a probability in [0, '
                             f'1], got {first_threshold!r}')
        count = len(in_channels)
        if loss_weights is None:
            loss_weights = dict(
                ce=(1 / count, ) * count, distill=(0., ) * (count - 1))
        super().__init__(
            num_classes, in_channels, loss_weights=loss_weights, **kwargs)
        self.beta = beta
        self.first_threshold = first_threshold
        # The first exit leaves by its confidence, and the last takes the rest.
        self.gates = nn.ModuleList(
            ExitGate(in_channels[0][0]) for _ in range(count - 2))

    def gate_policy(self) -> ExitPolicy:
        """What decides by the logits of :meth:`leaving_logit`."""
        count = self.exits.num_exits
        thresholds = (self.first_threshold, *[0.5] * len(self.gates))
        return ExitPolicy(count, thresholds[:count - 1], 'learned')

    def leaving_logit(self, index: int, logits: Tensor,
                      before: Optional[Tensor], pooled: Tensor) -> Tensor:
        """How sure it is (B, 1), as a logit, that a video may leave at an
        exit, 0-based: from its logits (B, K), and the features (B, C) before
        and with its frame."""
        if 0 < index <= len(self.gates):
            return self.gates[index - 1](before, pooled)
        return logits.float().softmax(1).amax(1, keepdim=True).logit()

    def leaving_logits(self, all_logits: Sequence[Tensor],
                       feats: Sequence[Sequence[Tensor]]) -> List[Tensor]:
        """Those of all exits."""
        earlier = [None, *(vectors[0] for vectors in feats)]
        return [
            self.leaving_logit(index, logits, earlier[index], pooled)
            for index, (logits,
                        (pooled, )) in enumerate(zip(all_logits, feats))
        ]

    def forward(self, feats: Sequence[Sequence[Tensor]],
                **kwargs: Any) -> Tuple[Tensor, ...]:
        """Logits (B, K) of each exit, of features (B, C) of videos.

        ``kwargs`` is what else the host hands on; it is not used.
        """
        return self.exits(feats)

    def loss(self, feats: Sequence[Sequence[Tensor]],
             data_samples: Sequence[ActionDataSample],
             **kwargs: Any) -> Dict[str, Tensor]:
        """Losses of features (B, C); see ``loss_of_vectors``. ``loss_gate`` is
        the mean of the gates' binary cross-entropies."""
        losses = self.loss_of_vectors(feats, data_samples)
        if len(self.gates):
            losses['loss_gate'] = self.gate_loss(
                feats,
                self.targets(data_samples).to(feats[0][0].device))
        return losses

    def gate_loss(self, feats: Sequence[Sequence[Tensor]],
                  target: Tensor) -> Tensor:
        """The mean loss of the gates for classes (B,), or scores (B, K)."""
        with torch.no_grad():
            all_logits = self.exits(feats)
        total = []
        for index, gate in enumerate(self.gates, 1):
            loss = F.cross_entropy(
                all_logits[index].float(), target, reduction='none')
            may_leave = loss <= self.beta * math.exp((index + 1) / 2)
            found = gate(feats[index - 1][0], feats[index][0])[:, 0].float()
            total.append(
                F.binary_cross_entropy_with_logits(found, may_leave.float()))
        return torch.stack(total).mean()


@MODELS.register_module()
class FrameExitRecognizer(DynPerceiverRecognizer):
    """FrameExit (arXiv 2104.13400): frame by frame, from coarse to fine.

    A video leaves after the first frame at which its gate says so; or, where
    there are ``thresholds``, at which the classifier is sure enough.

    Args:
        backbone (dict): Config of :class:`FrameExitBackbone`.
        cls_head (dict): Config of :class:`FrameExitHead`.
        **kwargs: As of :class:`DynPerceiverRecognizer`.
    """

    head_kind = 'mmaction.FrameExitHead'

    def run_exits(self,
                  inputs: Tensor) -> Tuple[Prediction, Optional[List[Tensor]]]:
        """Look at as many frames as the gates, or the policy, demand; with
        ``evaluate_all_exits`` at all, and replay what these decide.

        Args:
            inputs (Tensor): Normalised frames of videos (B, T, 3, H, W).
        """
        self._check_clips(inputs)
        trunk = self.backbone.net
        if not self.evaluate_all_exits:
            return self.leave_early(
                inputs, lambda index, x: x[:, trunk.order[index]]), None
        head = getattr(self, self.head_name)
        feats = trunk(inputs)
        all_logits = list(head.exits(feats))
        if self.policy.thresholds is not None:
            return self.policy.replay(all_logits), all_logits
        out = head.gate_policy().replay(head.leaving_logits(all_logits, feats))
        rows = torch.arange(len(inputs), device=inputs.device)
        logits = torch.stack(all_logits)[out.exit_index, rows]
        return out._replace(logits=logits), all_logits

    def leave_early(self, x: Tensor, load: Load) -> Prediction:
        """Look at frames until a video leaves.

        Args:
            x (Tensor): A row for each of B videos.
            load (Callable): Takes the number of an exit and the rows of the
                videos that are under way; returns the frame (B', 3, H, W) of
                each that this exit looks at, normalised.
        """
        head = getattr(self, self.head_name)
        gated = self.policy.thresholds is None
        policy = head.gate_policy() if gated else self.policy
        kept: Optional[Tensor] = None

        def step(index: int, carried: LoopState) -> Tuple[LoopState, Tensor]:
            carried, leaving = self._step(index, carried, load, gated)
            return carried, leaving if gated else carried.knowledge

        def keep(arrived: Any) -> None:
            nonlocal kept
            answer = arrived.carried.knowledge if gated else arrived.logits
            kept = scatter_rows(kept, arrived.rows, answer, len(x))

        exit_index, confidence = early_exit_loop(policy,
                                                 LoopState(FrameState(x)),
                                                 step, keep)
        assert kept is not None
        return Prediction(kept, exit_index, confidence)

    def _step(self, index: int, carried: LoopState, load: Load,
              gated: bool) -> Tuple[LoopState, Any]:
        """One more frame: what is carried on, with the logits, and the gate's
        answer."""
        trunk, head = self.backbone.net, getattr(self, self.head_name)
        x, before = carried.state
        pooled = trunk.look(load(index, x), before)
        logits, _ = head.exits.step(index, (pooled, ), carried.knowledge)
        leaving = head.leaving_logit(index, logits, before,
                                     pooled) if gated else None
        return LoopState(FrameState(x, pooled), logits,
                         carried.memory), leaving

    @torch.no_grad()
    def predict_lazily(self,
                       videos: Sequence[LazyVideo]) -> List[ActionDataSample]:
        """Predict in videos, of which only those frames are decoded that are
        looked at.

        Args:
            videos (Sequence[LazyVideo]): One batch.

        Returns:
            list[ActionDataSample]: As of ``predict``.
        """
        trunk = self.backbone.net
        numbers = torch.arange(len(videos), device=self._device())
        shape: List[Any] = []

        def load(index: int, rows: Tensor) -> Tensor:
            frames = [
                videos[row].frame(trunk.order[index]) for row in rows.tolist()
            ]
            data = self.data_preprocessor(
                dict(inputs=frames, data_samples=None), False)
            # [B, 1, 3, H, W] -> [B, 3, H, W]
            shape[:] = data['inputs'].shape[2:]
            return data['inputs'].squeeze(1)

        out = self.leave_early(numbers, load)
        macs = self.macs_per_exit((trunk.num_segments, *shape))
        return getattr(self, self.head_name).fill(out, macs=macs)

    def _check_clips(self, inputs: Tensor) -> None:
        """Refuse videos of more or fewer frames than exits."""
        super()._check_clips(inputs)
        frames = self.backbone.num_segments
        if inputs.shape[1] != frames:
            raise ValueError(
                f'a video must have {frames} images, one for each exit, got '
                f'{inputs.shape[1]}: take one crop, and leave twice_sample '
                f'out')

    def _device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def count_macs(self, input_shape: Tuple[int, ...]) -> Tuple[int, ...]:
        """See ``macs_per_exit``; the gates count."""
        return count_macs(self, _look_at_all, input_shape)


def _look_at_all(model: FrameExitRecognizer,
                 images: Tensor) -> Iterator[Tensor]:
    """Look at one frame after the other, of one video (T, 3, H, W)."""
    trunk = model.backbone.net
    carried = LoopState(trunk.initial_state(images))
    for index in range(trunk.num_segments):
        carried, leaving = model._step(index, carried,
                                       lambda k, x: x[:, trunk.order[k]], True)
        yield leaving
