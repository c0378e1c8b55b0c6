# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Accuracy and cost of each exit, and of leaving early, in one pass."""
from typing import (Any, Dict, List, Mapping, NamedTuple, Optional, Sequence,
                    Tuple)

import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from torch import Tensor

from ..errors import InputError

__all__ = [
    'EarlyExitMetric', 'SampleResult', 'check_views', 'exit_statistics',
    'label_ranks'
]


class SampleResult(NamedTuple):
    """What is kept of one sample: a few small numbers.

    Args:
        exit_index (int): The exit where the sample left, 0-based.
        macs (int, optional): MACs spent on the sample.
        exit_macs (tuple[int]): Cumulative MACs of each exit, if known.
        view_exits (tuple[int]): Where each view of it left, under test-time
            augmentation.
        rank (int): Number of classes that came before the true one there;
            below k, it is right in the top k.
        num_classes (int): Number of classes.
        exit_ranks (tuple[int]): The rank at each exit, if all were run.
    """

    exit_index: int
    macs: Optional[int] = None
    exit_macs: Tuple[int, ...] = ()
    view_exits: Tuple[int, ...] = ()
    rank: int = 0
    num_classes: int = 0
    exit_ranks: Tuple[int, ...] = ()

    @classmethod
    def of(cls, sample: Mapping[str, Any], **others: Any) -> 'SampleResult':
        """What the prediction of an early-exit model says."""
        return cls(
            int(sample['exit_index']), sample.get('macs'),
            tuple(sample.get('exit_macs', ())),
            tuple(sample.get('view_exits', ())), **others)


def label_ranks(scores: Tensor, labels: Tensor) -> Tensor:
    """Ranks (B, ...) of the true classes (B,) by scores (B, ..., K), from 0.

    Ties go to the lower class, as in ``argmax``. Where there is a NaN, the
    true class comes last: a network that has diverged is never right.
    """
    num_classes = scores.shape[-1]
    index = labels.reshape(-1, *[1] * (scores.ndim - 1))
    true = scores.gather(-1, index.expand(*scores.shape[:-1], 1))
    before = torch.arange(num_classes, device=scores.device) < index
    ranks = ((scores > true) | ((scores == true) & before)).sum(-1)
    return ranks.masked_fill(scores.isnan().any(-1), num_classes)


@METRICS.register_module()
class EarlyExitMetric(BaseMetric):
    """Accuracy of each exit, and accuracy and cost of leaving early.

    For samples with ``exit_logits`` (all exits were run): ``exit0/top1``,
    ``exit0/top5``, ... in percent. For all samples: ``exit0/macs``, ..., and
    under the thresholds at hand ``dynamic/top1``, ``dynamic/top5``, the
    share of samples that left at each exit, ``exit0/share``, ... in [0, 1],
    and ``dynamic/macs``, the mean MACs of one sample (1 MAC is one
    multiply-add; counted, not in millions).

    Args:
        topk (Sequence[int]): Which top-k accuracies. Those that are always
            100 %, as there are no more than k classes, are left out if any
            other remains. Defaults to (1, 5).
        collect_device, prefix: As for mmengine's ``BaseMetric``.

    Raises:
        ValueError: If ``topk`` holds something else than positive whole
            numbers.
    """

    # Not None, which would log a warning: these names need no prefix.
    default_prefix = ''

    def __init__(self,
                 topk: Sequence[int] = (1, 5),
                 collect_device: str = 'cpu',
                 prefix: Optional[str] = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        topk = (topk, ) if isinstance(topk, int) else tuple(topk)
        if not topk or not all(isinstance(k, int) and k > 0 for k in topk):
            raise ValueError(f'topk must be positive whole numbers, got '
                             f'{topk!r}')
        self.topk = topk

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep a few numbers of each prediction with ``gt_label``."""
        if not data_samples:
            return
        check_views(data_batch, data_samples)
        for key in ('gt_label', 'pred_score', 'exit_index'):
            if key not in data_samples[0]:
                raise InputError(
                    f'EarlyExitMetric needs {key!r} of each sample, got '
                    f'{sorted(data_samples[0])}: it is for early-exit models '
                    f'on labelled data')
        scores = torch.stack([s['pred_score'] for s in data_samples])
        labels = torch.cat([s['gt_label'].reshape(-1) for s in data_samples])
        if len(labels) != len(data_samples):
            raise InputError(f'EarlyExitMetric needs one label for each '
                             f'sample, got {len(labels)} labels for '
                             f'{len(data_samples)} samples')
        labels = labels.to(scores.device)
        exit_ranks: List[List[int]] = [[]] * len(labels)
        if all('exit_logits' in sample for sample in data_samples):
            # [(num_exits, K)] * B -> (B, num_exits, K)
            logits = torch.stack([s['exit_logits'] for s in data_samples])
            exit_ranks = label_ranks(logits, labels).tolist()
        ranks = label_ranks(scores, labels).tolist()
        for sample, rank, at_exits in zip(data_samples, ranks, exit_ranks):
            self.results.append(
                SampleResult.of(
                    sample,
                    rank=rank,
                    num_classes=scores.shape[1],
                    exit_ranks=tuple(at_exits)))

    def compute_metrics(self, results: List[Sequence]) -> Dict[str, float]:
        """Sum up what was kept; see the class."""
        # Collecting across processes may have turned them into plain lists.
        samples = [SampleResult(*result) for result in results]
        if not samples:
            return {}
        metrics: Dict[str, float] = {}
        ranks = {}
        if all(sample.exit_ranks for sample in samples):
            ranks = {
                f'exit{k}': found
                for k, found in enumerate(
                    zip(*(s.exit_ranks for s in samples)))
            }
        ranks['dynamic'] = tuple(sample.rank for sample in samples)
        num_classes = samples[0].num_classes
        for name, found in ranks.items():
            for k in [k for k in self.topk if k < num_classes] or self.topk:
                metrics[f'{name}/top{k}'] = 100 * _mean(
                    [rank < min(k, num_classes) for rank in found])
        num_exits = max(
            max(sample.exit_index for sample in samples) + 1,
            len(samples[0].exit_macs), len(samples[0].exit_ranks))
        return {**metrics, **exit_statistics(samples, num_exits)}


def exit_statistics(samples: Sequence[Any],
                    num_exits: int) -> Dict[str, float]:
    """Shares and MACs of samples of any task, at least one.

    Of a sample with several views each view counts.

    Returns:
        dict[str, float]: ``exit0/share``, ..., and, where they are known,
        ``exit0/macs``, ... and ``dynamic/macs``.
    """
    left = [
        index for sample in samples
        for index in sample.view_exits or (sample.exit_index, )
    ]
    metrics = {
        f'exit{k}/share': left.count(k) / len(left)
        for k in range(num_exits)
    }
    if all(sample.exit_macs for sample in samples):
        for k, macs in enumerate(zip(*(s.exit_macs for s in samples))):
            metrics[f'exit{k}/macs'] = _mean(macs)
    if all(sample.macs is not None for sample in samples):
        metrics['dynamic/macs'] = _mean([sample.macs for sample in samples])
    return metrics


def check_views(data_batch: Any, data_samples: Sequence[dict]) -> None:
    """Refuse predictions of which only the first view is known.

    Raises:
        InputError: If a host's test-time augmentation has merged them.
    """
    inputs = data_batch.get('inputs') if isinstance(data_batch, dict) else None
    # A collated batch is a tensor.
    if isinstance(inputs, (list, tuple)) and inputs and \
            isinstance(inputs[0], (list, tuple)) and \
            'view_exits' not in data_samples[0]:
        raise InputError(
            'test-time augmentation tells exits and MACs of the first view '
            "only: add dict(type='mmdynperceiver.EvaluateAllExitsHook') to "
            'custom_hooks, which merges those of all views')


def _mean(values: Sequence[float]) -> float:
    """Mean of at least one number."""
    return float(sum(values)) / len(values)
