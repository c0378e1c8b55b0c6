# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What the heads of all hosts share: loss weights, predictions, checks."""
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

import torch
from torch import Tensor

from ..core import Exits, LossWeights, Prediction, SegmentedTrunk

__all__ = [
    'build_loss_weights', 'check_classes', 'exit_settings', 'fill_predictions'
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
    last = [
        name for name in exits.state_dict()
        if name.startswith('classifiers.0.') and name.endswith('.weight')
    ][-1]
    found = weights.get(f'{prefix}{last}')
    if found is not None and len(found) != exits.num_classes:
        raise ValueError(
            f'the checkpoint has {len(found)} classes and the model has '
            f'{exits.num_classes}: set {option}={len(found)}, or load only '
            f"the backbone with model.backbone.init_cfg=dict("
            f"type='Pretrained', checkpoint=..., prefix='backbone.')")
