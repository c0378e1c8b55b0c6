# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What the heads of all hosts share: exits, losses, predictions, checks."""
from typing import (Any, Dict, List, Mapping, MutableMapping, Optional,
                    Sequence, Type, Union)

import torch
from torch import Tensor

from ..core import (Exits, LossWeights, Prediction, SegmentedTrunk,
                    exit_losses, fixed_exit_thresholds, select_exits)
from ..core.early_exit import average_groups
from ..core.sample_weights import SampleWeights
from ..datasets.class_names import HEAD_NAMES
from ..errors import InputError

__all__ = [
    'ExitHead', 'build_loss_weights', 'build_sample_weights', 'check_classes',
    'check_one_label', 'check_weights_classes', 'exit_settings',
    'fill_predictions', 'leave_out_classifiers'
]


def build_loss_weights(config: Union[LossWeights, dict, None],
                       num_exits: int = 4) -> LossWeights:
    """Turn a plain config into the weights of the losses.

    Args:
        config (LossWeights | dict, optional): Arguments of
            :class:`~mmdynperceiver.core.LossWeights` (``ce``, ``distill``,
            ``temperature``), ``dict(type='paper', alpha=0.5)`` for the
            paper's Eq. 3, or ``dict(type='equal')`` for the sum of all exits'
            losses without a teacher. None is the published recipe.
        num_exits (int): Number of exits. Defaults to 4.

    Raises:
        TypeError: If there is an unknown key.
        ValueError: If a number does not fit.
    """
    if isinstance(config, LossWeights):
        weights = config
    else:
        config = dict(config or {})
        kind = config.pop('type', None)
        if kind not in ('paper', 'equal', 'weights', None):
            raise ValueError(f"the type of loss_weights must be 'paper' (Eq. "
                             f"3), 'equal' or left out, got {kind!r}")
        if kind == 'equal':
            config = dict(
                ce=(1., ) * num_exits,
                distill=(0., ) * (num_exits - 1),
                **config)
        if kind == 'paper':
            weights = LossWeights.paper(**config, num_exits=num_exits)
        elif not config:
            weights = LossWeights.recipe(num_exits)
        else:
            weights = LossWeights(
                **{
                    key: tuple(value) if key in ('ce', 'distill') else value
                    for key, value in config.items()
                })
    if len(weights.ce) != num_exits:
        raise ValueError(f'loss_weights.ce must hold one weight for each of '
                         f'the {num_exits} exits, got {weights.ce}')
    return weights


def build_sample_weights(config: Union[SampleWeights, dict, None],
                         num_exits: int) -> Optional[SampleWeights]:
    """Turn a plain config, arguments of
    :class:`~mmdynperceiver.core.sample_weights.SampleWeights`, into the
    network that predicts weights; None has none.

    Raises:
        TypeError: If there is an unknown key.
        ValueError: If a number does not fit.
    """
    if config is None or isinstance(config, SampleWeights):
        return config
    return SampleWeights(num_exits, **config)


def exit_settings(trunk: SegmentedTrunk) -> Dict[str, Any]:
    """What a head's config may leave to the backbone."""
    return dict(
        in_channels=trunk.exit_channels,
        kinds=trunk.exit_kinds,
        hidden_channels=trunk.hidden_channels,
        dropout=trunk.dropout,
        init_std=trunk.head_init_std)


class ExitHead:
    """Mixin of a host's head that holds exits.

    A subclass sets ``exits``, ``loss_weights`` and ``sample_weights`` and
    gives ``targets`` and ``criterion``.

    Attributes:
        exits (Exits): The classifiers.
        loss_weights (LossWeights): How much each loss counts.
        sample_weights (SampleWeights, optional): How much each sample's loss
            counts at each exit; None, all alike.
        sample_type (type): The host's data sample.
        option (str): The config's option that sets the number of classes.
    """

    exits: Exits
    loss_weights: LossWeights
    sample_weights: Optional[SampleWeights]
    sample_type: Type
    option: str

    def targets(self, data_samples: Sequence[Any]) -> Tensor:
        """Classes (B,) of samples, or scores (B, K) that sum up to 1."""
        raise NotImplementedError

    def criterion(self, logits: Tensor, target: Tensor) -> Tensor:
        """The classification loss of one exit."""
        raise NotImplementedError

    def sample_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """The classification loss (B,) of each sample at one exit."""
        return torch.stack([
            self.criterion(logits[k:k + 1], target[k:k + 1])
            for k in range(len(target))
        ])

    def loss_of_vectors(self,
                        vectors: Sequence[Sequence[Tensor]],
                        data_samples: Sequence[Any],
                        group: int = 1) -> Dict[str, Tensor]:
        """Losses from pooled vectors (B * group, C) of each exit.

        Returns:
            dict[str, Tensor]: As of :meth:`loss_by_feat`; with
            ``sample_weights`` also ``loss_meta``, from which these learn.
        """
        all_logits = [
            average_groups(logits, group) for logits in self.exits(vectors)
        ]
        losses = self.loss_by_feat(all_logits, data_samples)
        if self.sample_weights is not None and torch.is_grad_enabled():
            target = self.targets(data_samples).to(all_logits[0].device)
            losses['loss_meta'] = self.sample_weights.meta_loss(
                self.exits, vectors, target, self.sample_losses,
                self.loss_weights.ce, group)
        return losses

    def loss_by_feat(self, all_logits: Sequence[Tensor],
                     data_samples: Sequence[Any]) -> Dict[str, Tensor]:
        """Losses from the logits (B, K) of all exits, in single precision.

        The targets are classes, or one score for each class, as batch
        augmentations make them.

        Returns:
            dict[str, Tensor]: Weighted ``loss_exit0``, ``loss_exit1``, ...
            and, where they have a weight, ``loss_distill0``, ...; for hard
            targets also the accuracies ``acc_exit0``, ... in percent.

        Raises:
            InputError: If a sample has several labels.
        """
        target = self.targets(data_samples).to(all_logits[0].device)
        given = None
        if self.sample_weights is not None:
            each = torch.stack([
                self.sample_losses(logits.float(), target)
                for logits in all_logits
            ], 1)
            # The weights learn by looking ahead, not from this.
            counts = self.sample_weights(each).detach()
            given = (counts * each).mean(0).unbind()
        return exit_losses(all_logits, target, self.criterion,
                           self.loss_weights, given)

    def predict_by_feat(
            self,
            all_logits: Sequence[Tensor],
            data_samples: Optional[Sequence[Any]] = None) -> List[Any]:
        """Predict at the last exit, as a head knows no thresholds.

        See :meth:`fill`.
        """
        last = fixed_exit_thresholds(len(all_logits) - 1, len(all_logits))
        return self.fill(
            select_exits(all_logits, last), data_samples, all_logits)

    def fill(self,
             out: Prediction,
             data_samples: Optional[Sequence[Any]] = None,
             all_logits: Optional[Sequence[Tensor]] = None,
             macs: Optional[Sequence[int]] = None) -> List[Any]:
        """Write predictions into samples; see :func:`fill_predictions`.

        New samples take the place of those that are None.
        """
        samples = [
            self.sample_type() if sample is None else sample
            for sample in data_samples or [None] * len(out.logits)
        ]
        return fill_predictions(samples, out, all_logits, macs)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str,
                              *args: Any) -> None:
        """Refuse weights of another number of classes."""
        check_classes(self.exits, state_dict, f'{prefix}exits.', self.option)
        super()._load_from_state_dict(  # type: ignore[misc]
            state_dict, prefix, *args)


def fill_predictions(samples: Sequence[Any],
                     out: Prediction,
                     all_logits: Optional[Sequence[Tensor]] = None,
                     macs: Optional[Sequence[int]] = None) -> List[Any]:
    """Write predictions into a host's data samples.

    Args:
        samples (Sequence): One for each prediction.
        out (Prediction): Outcome of an early-exiting pass.
        all_logits (Sequence[Tensor], optional): Logits (B, K) of each exit,
            if all were run. Defaults to None.
        macs (Sequence[int], optional): Cumulative MACs of each exit.
            Defaults to None, not known.

    Returns:
        list: The samples, with ``pred_score`` (K,), ``pred_label``,
        ``exit_index`` (int, 0-based), ``exit_confidence`` (float); with
        ``macs`` (int) and ``exit_macs`` (tuple) if they are known, and with
        ``exit_logits`` (num_exits, K) if all exits were run.
    """
    scores = out.logits.float().softmax(1)
    labels = scores.argmax(1, keepdim=True)
    confidences = out.confidence.tolist()
    # (num_exits, B, K) -> (B, num_exits, K)
    stacked = None if all_logits is None else torch.stack(
        [logits.float() for logits in all_logits], 1)
    for row, index in enumerate(out.exit_index.tolist()):
        fields = dict(exit_index=index, exit_confidence=confidences[row])
        if macs is not None:
            fields.update(macs=macs[index], exit_macs=tuple(macs))
        if stacked is not None:
            fields['exit_logits'] = stacked[row]
        samples[row].set_pred_score(scores[row]).set_pred_label(labels[row])
        samples[row].set_data(fields)
    return list(samples)


def check_classes(exits: Exits, weights: Mapping[str, Any], prefix: str,
                  option: str) -> None:
    """Refuse weights of another number of classes than the exits.

    The hosts would warn and go on with random classifiers. The names of the
    exits begin with ``prefix``; the config's ``option`` sets the number.

    Raises:
        ValueError: If the number of classes differs.
    """
    found = _num_classes(weights, prefix)
    if found not in (None, exits.num_classes):
        raise ValueError(_wrong_classes(found, exits.num_classes, option))


def check_weights_classes(weights: Mapping[str, Any],
                          expected: Optional[int]) -> None:
    """Compare the classes of a checkpoint's weights with those of the model.

    Raises:
        InputError: If they differ.
    """
    for path in HEAD_NAMES:
        found = _num_classes(weights, f'{path}.exits.')
        if found is not None and expected not in (None, found):
            raise InputError(
                _wrong_classes(found, expected, f'model.{path}.num_classes'))


def _wrong_classes(found: Optional[int], expected: Optional[int],
                   option: str) -> str:
    """What to say about a checkpoint of another number of classes."""
    return (f'the checkpoint has {found} classes and the model has '
            f'{expected}: set {option}={found}, or train new classifiers '
            f'with load_from, or load only the backbone with '
            f"model.backbone.init_cfg=dict(type='Pretrained', "
            f"checkpoint=..., prefix='backbone.')")


def leave_out_classifiers(exits: Exits, weights: MutableMapping[str, Any],
                          prefix: str) -> Optional[str]:
    """Take out of weights what another number of classes cannot fill.

    Returns:
        str: What was left out; None if the numbers of classes are the same.
    """
    found = _num_classes(weights, prefix)
    if found in (None, exits.num_classes):
        return None
    names = [
        f'{prefix}{name}' for name, own in exits.state_dict().items()
        if f'{prefix}{name}' in weights
        and weights[f'{prefix}{name}'].shape != own.shape
    ]
    for name in names:
        del weights[name]
    return (f'the checkpoint has {found} classes and the model has '
            f'{exits.num_classes}: {len(names)} entries of the exits are '
            f'left out and trained anew, the first is {names[0]}')


def _num_classes(weights: Mapping[str, Any], prefix: str) -> Optional[int]:
    """Number of classes of the exits in a state dict, if it has them."""
    names = [
        name for name in weights if name.startswith(f'{prefix}classifiers.0.')
        and name.endswith('.weight')
    ]
    return len(weights[names[-1]]) if names else None


def check_one_label(labels: Sequence[Tensor]) -> None:
    """Refuse samples without a label, or with several.

    Raises:
        InputError: Naming the first such sample.
    """
    for number, label in enumerate(labels):
        if label.numel() != 1:
            raise InputError(
                f'each image or video must have one label, got '
                f'{label.tolist()} for sample {number} of a batch: '
                f'multi-label data cannot train or test early exits')
