# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The four figures that a report begins with, each beside the last exit."""
from typing import NamedTuple, Sequence

import torch
from torch import Tensor

from ..calibration.intervals import (mean_interval, paired_interval,
                                     wilson_interval)

__all__ = ['KeyFigure', 'headline']

Interval = tuple[float, float]


class KeyFigure(NamedTuple):
    """One figure of leaving early, with 95 % intervals."""

    name: str  # 'accuracy', 'macs', 'latency_ms' or 'early_exits'
    value: float  # a share in [0, 1], or the mean cost of one sample
    interval: Interval
    last: float  # what the last exit has for all samples
    difference: float  # the value less that
    difference_interval: Interval  # paired: judged on the same samples


def headline(exit_index: Tensor,
             right: Tensor,
             macs: Sequence[float],
             latency_ms: Sequence[float] | None = None) -> list[KeyFigure]:
    """What leaving early brings, each figure beside the last exit's.

    Args:
        exit_index (Tensor): Where each sample leaves (N,).
        right (Tensor): Whether each exit is right (num_exits, N).
        macs (Sequence[float]): Cumulative MACs of each exit.
        latency_ms (Sequence[float], optional): Cumulative, of each exit.

    Returns:
        list[KeyFigure]: Accuracy, MACs, latency if known, and the share of
        samples that leave before the last exit.
    """
    total = exit_index.numel()
    hits, last = right.gather(0, exit_index[None])[0], right[-1]
    gained, lost = int((hits & ~last).sum()), int((last & ~hits).sum())
    figures = [
        _share('accuracy', hits,
               last.double().mean().item(),
               paired_interval(gained, lost, total)),
        _cost('macs', exit_index, macs)
    ]
    if latency_ms is not None:
        figures.append(_cost('latency_ms', exit_index, latency_ms))
    early = exit_index < len(right) - 1
    interval = wilson_interval(early.sum().item(), total)
    return [*figures, _share('early_exits', early, 0., interval)]


def _share(name: str, chosen: Tensor, last: float,
           difference: Interval) -> KeyFigure:
    """A figure that counts samples."""
    share = chosen.double().mean().item()
    interval = wilson_interval(chosen.sum().item(), len(chosen))
    return KeyFigure(name, share, interval, last, share - last, difference)


def _cost(name: str, exit_index: Tensor, costs: Sequence[float]) -> KeyFigure:
    """A figure that is a mean cost."""
    per_exit = torch.tensor(list(costs), dtype=torch.float64)
    spent = per_exit[exit_index.cpu()]
    low, high = mean_interval(spent)
    mean, last = spent.mean().item(), float(per_exit[-1])
    # No sample costs less than the first exit or more than the last one.
    low, high = max(low, float(per_exit[0])), min(high, last)
    return KeyFigure(name, mean, (low, high), last, mean - last,
                     (low - last, high - last))
