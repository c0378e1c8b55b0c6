# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Test-time augmentation: what all views of a sample say and cost."""
from typing import Any, Callable, List, Optional, Sequence

import torch
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import nn

__all__ = ['find_tta', 'merge_views']

Merge = Callable[[List[Sequence[Any]]], List[Any]]


def find_tta(model: nn.Module) -> Optional[BaseTTAModel]:
    """The host's wrapper of test-time augmentation, if a model is in one."""
    while is_model_wrapper(model):
        model = model.module
    return model if isinstance(model, BaseTTAModel) else None


def merge_views(merge: Merge, samples: List[Sequence[Any]]) -> List[Any]:
    """Merge the predictions of all views of samples, exit by exit.

    The host's ``merge_preds`` merges what was predicted, and keeps the rest
    of the first view. Here ``macs`` and ``exit_macs`` are sums over the
    views, ``view_exits`` (tuple) tells where each left, ``exit_index`` the
    deepest of these, and ``exit_logits`` (the logarithms of merged
    probabilities) or ``exit_pred_instances`` are merged at each exit.
    """
    return [_merge_sample(merge, views) for views in samples]


def _merge_sample(merge: Merge, views: Sequence[Any]) -> Any:
    """Merge the views of one sample."""
    fields = dict(
        view_exits=tuple(view.exit_index for view in views),
        exit_index=max(view.exit_index for view in views),
        exit_confidence=sum(view.exit_confidence
                            for view in views) / len(views))
    if all('macs' in view for view in views):
        fields['macs'] = sum(view.macs for view in views)
    if all('exit_macs' in view for view in views):
        fields['exit_macs'] = tuple(
            sum(macs) for macs in zip(*(view.exit_macs for view in views)))
    # The host may write into the views, so the exits come first.
    if all('exit_logits' in view for view in views):
        scores = [
            _merge_exit(merge, views, 'pred_score',
                        [view.exit_logits[k].softmax(-1) for view in views])
            for k in range(len(views[0].exit_logits))
        ]
        tiny = torch.finfo(scores[0].dtype).tiny
        fields['exit_logits'] = torch.stack(scores).clamp(min=tiny).log()
    if all('exit_pred_instances' in view for view in views):
        fields['exit_pred_instances'] = [
            _merge_exit(merge, views, 'pred_instances',
                        [view.exit_pred_instances[k] for view in views])
            for k in range(len(views[0].exit_pred_instances))
        ]
    merged = merge([list(views)])[0]
    merged.set_data(fields)
    return merged


def _merge_exit(merge: Merge, views: Sequence[Any], name: str,
                predicted: Sequence[Any]) -> Any:
    """What the host makes of the predictions of one exit."""
    copies = []
    for view, value in zip(views, predicted):
        copies.append(view.clone())
        copies[-1].set_data({name: value})
    return merge([copies])[0].get(name)
