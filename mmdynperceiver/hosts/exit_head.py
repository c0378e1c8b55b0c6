# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What the heads of all hosts share: loss weights, predictions, checks."""
from typing import (Any, Dict, List, Mapping, MutableMapping, Optional,
                    Sequence, Union)

import torch
from torch import Tensor

from ..core import Exits, LossWeights, Prediction, SegmentedTrunk
from ..datasets.class_names import HEAD_NAMES
from ..errors import InputError

__all__ = [
    'build_loss_weights', 'check_classes', 'check_one_label',
    'check_weights_classes', 'exit_settings', 'fill_predictions',
    'leave_out_classifiers'
]


def build_loss_weights(config: Union[LossWeights, dict, None],
                       num_exits: int = 4) -> LossWeights:
    """Turn a plain config into the weights of the losses.

    Args:
        config (LossWeights | dict, optional): Arguments of
            :class:`~mmdynperceiver.core.LossWeights` (``ce``, ``distill``,
            ``temperature``), or ``dict(type='paper', alpha=0.5)`` for the
            paper's Eq. 3. None is the published recipe.
        num_exits (int): Number of exits. Defaults to 4.

    Raises:
        TypeError: If there is an unknown key.
        ValueError: If a number does not fit.
    """
    if isinstance(config, LossWeights):
        weights = config
    else:
        config = dict(config or {})
        kind = config.pop('type', 'weights')
        if kind == 'paper':
            weights = LossWeights.paper(**config, num_exits=num_exits)
        elif kind == 'weights' and not config:
            weights = LossWeights.recipe(num_exits)
        elif kind == 'weights':
            for key in ('ce', 'distill'):
                if key in config:
                    config[key] = tuple(config[key])
            weights = LossWeights(**config)
        else:
            raise ValueError(f"the type of loss_weights must be 'paper' (Eq. "
                             f"3) or left out, got {kind!r}")
    if len(weights.ce) != num_exits:
        raise ValueError(f'loss_weights.ce must hold one weight for each of '
                         f'the {num_exits} exits, got {weights.ce}')
    return weights


def exit_settings(trunk: SegmentedTrunk) -> Dict[str, Any]:
    """What a head's config may leave to the backbone.

    Args:
        trunk (SegmentedTrunk): The network without its exits.
    """
    return dict(
        in_channels=trunk.exit_channels,
        kinds=trunk.exit_kinds,
        hidden_channels=trunk.hidden_channels,
        dropout=trunk.dropout,
        init_std=trunk.head_init_std)


def fill_predictions(samples: Sequence[Any],
                     out: Prediction,
                     all_logits: Optional[Sequence[Tensor]] = None,
                     macs: Optional[Sequence[int]] = None) -> List[Any]:
    """Write predictions into a host's data samples.

    Args:
        samples (Sequence): One for each prediction, with the host's
            ``set_pred_score``, ``set_pred_label`` and ``set_data``.
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
    exit_indices = out.exit_index.tolist()
    confidences = out.confidence.tolist()
    stacked = None
    if all_logits is not None:
        # (num_exits, B, K) -> (B, num_exits, K)
        stacked = torch.stack([t.float() for t in all_logits], 1)
    for row, sample in enumerate(samples):
        sample.set_pred_score(scores[row]).set_pred_label(labels[row])
        index = exit_indices[row]
        fields = dict(exit_index=index, exit_confidence=confidences[row])
        if macs is not None:
            fields.update(macs=macs[index], exit_macs=tuple(macs))
        if stacked is not None:
            fields['exit_logits'] = stacked[row]
        sample.set_data(fields)
    return list(samples)


def check_classes(exits: Exits, weights: Mapping[str, Any], prefix: str,
                  option: str) -> None:
    """Refuse weights of another number of classes.

    The hosts would warn and go on with random classifiers.

    Args:
        exits (Exits): The classifiers.
        weights (Mapping[str, Any]): The state dict to be loaded.
        prefix (str): What stands before the names of the exits in it.
        option (str): The config's option that sets the number.

    Raises:
        ValueError: If the number of classes differs.
    """
    found = _num_classes(exits, weights, prefix)
    if found is not None and found != exits.num_classes:
        raise ValueError(_wrong_classes(found, exits.num_classes, option))


def check_weights_classes(weights: Mapping[str, Any],
                          expected: Optional[int]) -> None:
    """Compare the classes of a checkpoint with those of the model.

    Args:
        weights (Mapping[str, Any]): The checkpoint's state dict.
        expected (int, optional): Number of classes of the model, if known.

    Raises:
        InputError: If they differ.
    """
    for path in HEAD_NAMES:
        names = [
            name for name in weights
            if name.startswith(f'{path}.exits.classifiers.0.')
            and name.endswith('.weight')
        ]
        if names and expected not in (None, len(weights[names[-1]])):
            raise InputError(
                _wrong_classes(
                    len(weights[names[-1]]), expected,
                    f'model.{path}.num_classes'))


def _wrong_classes(found: int, expected: Optional[int], option: str) -> str:
    """What to say about a checkpoint of another number of classes.

    Args:
        found (int): The checkpoint's.
        expected (int, optional): The model's.
        option (str): The config's option that sets it.
    """
    return (f'the checkpoint has {found} classes and the model has '
            f'{expected}: set {option}={found}, or train new classifiers '
            f'with load_from, or load only the backbone with '
            f"model.backbone.init_cfg=dict(type='Pretrained', "
            f"checkpoint=..., prefix='backbone.')")


def leave_out_classifiers(exits: Exits, weights: MutableMapping[str, Any],
                          prefix: str) -> Optional[str]:
    """Leave out what weights of another number of classes cannot fill.

    Args:
        exits (Exits): The classifiers.
        weights (MutableMapping[str, Any]): The state dict to be loaded; what
            does not fit is taken out of it.
        prefix (str): What stands before the names of the exits in it.

    Returns:
        str: What was left out; None if the numbers of classes are the same.
    """
    found = _num_classes(exits, weights, prefix)
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


def _num_classes(exits: Exits, weights: Mapping[str, Any],
                 prefix: str) -> Optional[int]:
    """Number of classes of the exits in a state dict, if it has them."""
    last = [
        name for name in exits.state_dict()
        if name.startswith('classifiers.0.') and name.endswith('.weight')
    ][-1]
    found = weights.get(f'{prefix}{last}')
    return None if found is None else len(found)


def check_one_label(labels: Sequence[Tensor]) -> None:
    """Refuse data of several labels per sample.

    Args:
        labels (Sequence[Tensor]): The labels of each sample.

    Raises:
        InputError: If a sample has no label or several.
    """
    for number, label in enumerate(labels):
        if label.numel() != 1:
            raise InputError(
                f'each image or video must have one label, got '
                f'{label.tolist()} for sample {number} of a batch: '
                f'multi-label data cannot train or test early exits')
