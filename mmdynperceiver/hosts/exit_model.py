# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What the early-exit models of all hosts share: policy and decision."""
import warnings
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import torch
from mmengine.logging import MessageHub
from mmengine.registry import Registry
from torch import Tensor, nn

from ..core import (ExitPolicy, OperatingPoint, Prediction, SegmentedTrunk,
                    fixed_exit_thresholds, run_all_exits, run_early_exit)
from ..core.complexity import CountsMacs
from ..core.early_exit import as_images, average_groups, running_stats_for_one
from ..core.operating_point import describe_model
from ..core.protocols import ExitClassifiers
from ..io.checkpoint_file import check_weights
from .exit_head import exit_settings
from .trunk_backbone import SegmentedBackbone

__all__ = ['EarlyExitModel', 'build_head', 'refuse_neck']

Thresholds = Union[Sequence[float], str, None]


class EarlyExitModel(CountsMacs):
    """Mixin for a host's model that joins a trunk, exits and a policy.

    Without thresholds all samples run to the last exit. With thresholds each
    runs only until it leaves, and the others go on as a smaller batch. A
    subclass hands its arguments to :meth:`make_policy`; one without an
    ``ExitHead`` gives ``exit_parts``, ``loss`` and ``predict`` of its own.

    Args:
        thresholds (Sequence[float] | str, optional): One for each exit but
            the last, compared with the largest softmax probability, or the
            JSON file of an operating point (see
            :class:`~mmdynperceiver.core.OperatingPoint`), whose criterion
            and temperatures then hold. None takes those of the checkpoint,
            if it has any. Defaults to None.
        exit_index (int, optional): The one exit at which all samples leave,
            0-based, instead of thresholds. Defaults to None.
        branch_first (float): Share of the training steps, at the beginning,
            in which the feature branch alone is trained, with a temporary
            classifier; then all is trained together (the mixed regime of
            arXiv 2407.14320). Defaults to 0.

    Attributes:
        branch_classifier (nn.Linear, optional): The temporary classifier.
        policy (ExitPolicy): The thresholds and what they are compared with;
            a checkpoint carries them, until its weights are trained on.
        evaluate_all_exits (bool): Whether to run everything once and replay
            the thresholds, rather than stop (as
            :class:`EvaluateAllExitsHook` sets it). Defaults to False.
        head_name (str): The attribute that holds the head.
    """

    policy: ExitPolicy
    backbone: SegmentedBackbone
    training: bool
    evaluate_all_exits = False
    head_name = 'head'
    # What thresholds are compared with where they come without a file.
    criterion = 'max_prob'
    branch_first: float
    branch_classifier: Optional[nn.Linear]

    def exit_parts(self) -> Tuple[SegmentedTrunk, ExitClassifiers]:
        """The trunk and the exits; None for these without a head."""
        head = getattr(self, self.head_name)
        return self.backbone.net, getattr(head, 'exits', None)

    def make_policy(self,
                    thresholds: Thresholds,
                    exit_index: Optional[int],
                    exit: Optional[int] = None) -> ExitPolicy:
        """The policy of numbers, a file or a fixed exit.

        ``exit`` is the old name of ``exit_index``.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If something does not fit this model.
        """
        trunk, exits = self.exit_parts()
        num_exits = trunk.num_segments if exits is None else exits.num_exits
        if exit is not None:
            warnings.warn(
                "the model's option exit is now exit_index; the old name goes "
                'with the next release', DeprecationWarning)
            exit_index = exit
        if exit_index is not None:
            if thresholds is not None:
                raise ValueError(
                    f'give either thresholds or a fixed exit, got '
                    f'thresholds={thresholds!r} and exit_index={exit_index!r}')
            thresholds = fixed_exit_thresholds(exit_index, num_exits)
        if not isinstance(thresholds, str):
            return ExitPolicy(num_exits, thresholds, self.criterion)
        # A model without a head cannot be told from others.
        model = None if exits is None else describe_model(trunk, exits)
        point = OperatingPoint.load(thresholds, num_exits, model)
        # Logits of classes and of a policy have nothing in common.
        if 'learned' in {self.criterion, point.criterion} and \
                self.criterion != point.criterion:
            raise ValueError(
                f'thresholds file {thresholds!r} is made for the criterion '
                f'{point.criterion!r}, this model has {self.criterion!r}: '
                f'calibrate this model')
        return ExitPolicy.from_operating_point(point)

    def make_branch_classifier(self, branch_first: float) -> None:
        """The classifier of the first phase of a training, if it has one.

        Raises:
            ValueError: If it is no share of the steps.
        """
        trunk, exits = self.exit_parts()
        if not 0 <= branch_first < 1 or branch_first and exits is None:
            raise ValueError(f'branch_first must be a share of the training '
                             f'steps, from 0 to below 1, of a model with a '
                             f'head, got {branch_first!r}')
        self.branch_first = branch_first
        self.branch_classifier = nn.Linear(
            trunk.branch_channels, exits.num_classes) if branch_first else None

    def _trains_branch(self) -> bool:
        """Whether a training with two phases is in the first."""
        hub = MessageHub.get_current_instance()
        steps, done = hub.get_info('max_iters', 0), hub.get_info('iter', 0)
        return self.branch_classifier is not None and \
            done < self.branch_first * steps

    def branch_loss(self, inputs: Tensor,
                    data_samples: List[Any]) -> Dict[str, Tensor]:
        """Loss of the feature branch and its temporary classifier alone, of
        what :meth:`loss` takes."""
        head, classifier = getattr(self, self.head_name), \
            self.branch_classifier
        assert classifier is not None
        images, group = as_images(inputs)
        logits = classifier(self.exit_parts()[0].run_branch(images))
        logits = average_groups(logits, group).float()
        target = head.targets(data_samples).to(logits.device)
        return dict(loss_branch=head.criterion(logits, target))

    def drop_loaded_thresholds(self) -> None:
        """In training, drop those of a checkpoint: its weights change."""
        if self.training and torch.is_grad_enabled():
            self.policy.drop_loaded()

    def loss(self, inputs: Tensor, data_samples: List[Any],
             **kwargs: Any) -> Dict[str, Tensor]:
        """Losses of normalised images (B, 3, H, W) or videos (B, M, 3, H, W).

        See :meth:`mmdynperceiver.hosts.exit_head.ExitHead.loss_by_feat`, and
        in the first of two phases :meth:`branch_loss`.
        """
        self.drop_loaded_thresholds()
        with running_stats_for_one(self, inputs.shape[:-3].numel()):
            if self._trains_branch():
                return self.branch_loss(inputs, data_samples)
            return super().loss(  # type: ignore[misc]
                inputs, data_samples, **kwargs)

    def predict(self,
                inputs: Tensor,
                data_samples: Optional[List[Any]] = None,
                **kwargs: Any) -> List[Any]:
        """Predict in images or videos with the thresholds of the policy.

        See :meth:`run_exits`, and
        :func:`~mmdynperceiver.hosts.exit_head.fill_predictions` for what the
        given or new data samples then hold.
        """
        out, all_logits = self.run_exits(inputs)
        return getattr(self, self.head_name).fill(
            out, data_samples, all_logits,
            self.macs_per_exit(inputs.shape[1:]))

    def run_exits(self,
                  inputs: Tensor) -> Tuple[Prediction, Optional[List[Tensor]]]:
        """Run as deep as the policy demands, or everything.

        Without thresholds, or with ``evaluate_all_exits``, all exits run.

        Args:
            inputs (Tensor): Normalised images (B, 3, H, W), or the images of
                videos (B, M, 3, H, W), on which a video decides together.

        Returns:
            tuple: The outcome for B samples, and the logits (B, K) of each
            exit, or None if not all were run.
        """
        trunk, exits = self.exit_parts()
        images, group = as_images(inputs)
        if self.policy.thresholds is None or self.evaluate_all_exits:
            all_logits = list(run_all_exits(trunk, exits, images, group))
            return self.policy.replay(all_logits), all_logits
        return run_early_exit(trunk, exits, self.policy, images, group), None

    def _load_from_state_dict(self, state_dict: Dict[str, Any], prefix: str,
                              *args: Any) -> None:
        """Refuse damaged weights, whoever loads them."""
        check_weights({
            name: value
            for name, value in state_dict.items() if name.startswith(prefix)
        })
        super()._load_from_state_dict(  # type: ignore[misc]
            state_dict, prefix, *args)


def build_head(registry: Registry, kind: str, backbone: SegmentedBackbone,
               config: Dict[str, Any]) -> nn.Module:
    """Build a head; what depends on the backbone may be left out."""
    return registry.build({
        'type': kind,
        **exit_settings(backbone.net),
        **config
    })


def refuse_neck(neck: None) -> None:
    """There is no place for a neck."""
    if neck is not None:
        raise ValueError(f'the exits classify what the backbone returns, so '
                         f'there is no neck, got {neck!r}')
