# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Several networks, timed side by side."""
import statistics
from typing import Any, Dict, List, Sequence

import torch
from torch import Tensor

from ..calibration.outcomes import ExitOutcomes
from ..calibration.share_solver import share_solution_for_budget
from ..core.complexity import expected_cost
from .entries import EVAL_BATCH, BenchmarkEntry
from .latency import summary, time_in_turn
from .peak_memory import peak_memory

__all__ = ['compare', 'compare_training', 'top1_per_exit']

# Images that a network is given in a turn, or one batch.
IMAGES_PER_TURN = 8
# Mean MACs at which the curve of leaving early has points.
CURVE_POINTS = 17


def compare(entries: Sequence[BenchmarkEntry],
            images: Tensor,
            batch_size: int,
            runs: int = 50,
            warmup: int = 10,
            bases: Sequence[int] = (0, ),
            clock: str = 'wall') -> List[Dict[str, Any]]:
    """Time all entries in turn, each exit and the dynamic pass.

    Ratios are medians over rounds, so that a machine that slows down in
    between does not touch them. Before its turn each entry runs untimed to
    its last exit, since another's data are in the caches; and before all,
    every dynamic pass on every batch, for which a compiler makes its graphs.

    Args:
        entries (Sequence[BenchmarkEntry]): What to time.
        images (Tensor): Normalised images (N, 3, H, W).
        batch_size (int): Images in a batch, at most N.
        runs (int): Timed rounds. Defaults to 50.
        warmup (int): Untimed rounds before. Defaults to 10.
        bases (Sequence[int]): The entries whose last exits ratios refer
            to. Defaults to (0, ).
        clock (str): 'wall' or 'cpu', see
            :func:`~mmdynperceiver.benchmark.latency.time_in_turn`. Defaults
            to 'wall'.

    Returns:
        list[dict]: For each entry ``exits``, with times of a batch and ratios
        ``of_base``, against the first base, and ``of_bases``;
        ``images_per_s`` through all exits; and, with thresholds, ``dynamic``.
    """
    count = len(images) // batch_size
    batches = list(images[:count * batch_size].split(batch_size))
    shares = [_shares(entry, batches) for entry in entries]
    groups = [[*entry.passes, *filter(None, [entry.dynamic])]
              for entry in entries]
    leads = [entry.passes[-1] for entry in entries]
    times = time_in_turn(groups, batches, runs, warmup, leads,
                         max(1, IMAGES_PER_TURN // batch_size), clock)
    references = [times[base][len(entries[base].passes) - 1] for base in bases]
    rows = []
    for entry, own, left in zip(entries, times, shares):
        rows.append(_row(entry, batch_size, own, references))
        if left:
            rows[-1]['dynamic'] = _dynamic_row(batch_size, own, left,
                                               references)
    return rows


@torch.inference_mode()
def _shares(entry: BenchmarkEntry,
            batches: Sequence[Tensor]) -> List[List[float]]:
    """Which part of each batch leaves at each exit; [] for all at one."""
    return [(
        entry.dynamic(batch).exit_index.bincount(minlength=len(entry.passes)) /
        len(batch)).tolist() for batch in batches if entry.dynamic is not None]


def _row(entry: BenchmarkEntry, batch_size: int,
         times: Sequence[Sequence[float]],
         references: Sequence[Sequence[float]]) -> Dict[str, Any]:
    """What the times of each exit, and of the bases, came to."""
    exits: List[Dict[str, Any]] = []
    for k, values in enumerate(times[:len(entry.passes)]):
        ratios = [_median_ratio(values, other) for other in references]
        exits.append(
            dict(summary(values), exit=k, of_base=ratios[0], of_bases=ratios))
        if entry.macs is not None:
            exits[k]['macs'] = entry.macs[k]
    return dict(
        name=entry.name,
        mode=entry.mode,
        batch_size=batch_size,
        exits=exits,
        images_per_s=1000 * batch_size / exits[-1]['median_ms'])


def _dynamic_row(batch_size: int, times: Sequence[Sequence[float]],
                 shares: Sequence[Sequence[float]],
                 references: Sequence[Sequence[float]]) -> Dict[str, Any]:
    """What leaving early came to, by the times of each exit and of it.

    ``of_last`` is against the last exit; ``of_ideal`` against the exits'
    times in the same round weighted by the shares of its batch.
    """
    *exit_times, dynamic = times
    used = [shares[r % len(shares)] for r in range(len(dynamic))]
    ideal = [
        expected_cost(left, [values[r] for values in exit_times])
        for r, left in enumerate(used)
    ]
    ratios = [sum(dynamic) / sum(reference) for reference in references]
    mean = statistics.fmean(dynamic)
    return dict(
        summary(dynamic),
        mean_ms=mean,
        images_per_s=1000 * batch_size / mean,
        shares=[statistics.fmean(column) for column in zip(*used)],
        of_base=ratios[0],
        of_bases=ratios,
        of_last=sum(dynamic) / sum(exit_times[-1]),
        of_ideal=_median_ratio(dynamic, ideal))


def compare_training(entries: Sequence[BenchmarkEntry],
                     images: Tensor,
                     batch_size: int,
                     runs: int = 5,
                     warmup: int = 1,
                     base: int = 0) -> List[Dict[str, Any]]:
    """Time a training step of each entry that has one, in turn.

    The loss is the plain sum of the exits' cross-entropies; the optimiser is
    not included.

    Arguments as in :func:`compare`.

    Returns:
        list[dict]: ``name``, ``batch_size``, the times, ``peak_memory_mib``
        and, against the base, ``of_base`` and ``memory_of_base``.
    """
    entered = [entry for entry in entries if entry.train_step is not None]
    batch = images[:batch_size]
    steps = [entry.train_step for entry in entered if entry.train_step]
    timed = time_in_turn([[step] for step in steps], [batch], runs, warmup)
    times = [values for values, in timed]
    memory = [peak_memory(step, batch) for step in steps]
    first = entered.index(entries[base])
    return [
        dict(
            summary(values),
            name=entry.name,
            batch_size=batch_size,
            of_base=_median_ratio(values, times[first]),
            peak_memory_mib=peak,
            memory_of_base=peak / memory[first])
        for entry, values, peak in zip(entered, times, memory)
    ]


def _median_ratio(values: Sequence[float], others: Sequence[float]) -> float:
    """Median over the rounds."""
    return statistics.median(a / b for a, b in zip(values, others))


@torch.inference_mode()
def top1_per_exit(entry: BenchmarkEntry, images: Tensor,
                  labels: Tensor) -> Dict[str, Any]:
    """Top-1 accuracy on images (N, 3, H, W) of classes (N,), in percent.

    Returns:
        dict: ``exits``, one number each; ``dynamic`` where there are
        thresholds; and of several exits ``curve``, points of leaving early
        with ``shares`` of the exits and ``top1``, whose thresholds are found
        on these very images.
    """
    batches = list(zip(images.split(EVAL_BATCH), labels.split(EVAL_BATCH)))
    logits = [
        torch.cat(parts).float().cpu()
        for parts in zip(*(entry.all_exits(batch) for batch, _ in batches))
    ]
    labels = labels.cpu()
    found: Dict[str, Any] = dict(exits=[
        100 * (part.argmax(1) == labels).double().mean().item()
        for part in logits
    ])
    if entry.dynamic is not None:
        hits = sum(
            (entry.dynamic(batch).logits.argmax(1) == target).sum().item()
            for batch, target in batches)
        found['dynamic'] = 100 * hits / len(labels)
    if len(logits) > 1 and entry.macs and len(labels.unique()) > 1:
        found['curve'] = _early_exit_curve(logits, labels, entry.macs)
    return found


def _early_exit_curve(logits: Sequence[Tensor], labels: Tensor,
                      macs: Sequence[float]) -> List[Dict[str, Any]]:
    """What leaving early brings from the first exit's MACs to the last's."""
    samples = ExitOutcomes.of(logits, labels, macs)
    points = []
    for k in range(CURVE_POINTS):
        part = k / (CURVE_POINTS - 1)
        budget = (1 - part) * macs[0] + part * macs[-1]
        outcome = samples.evaluate(share_solution_for_budget(samples, budget))
        points.append(dict(shares=outcome.shares, top1=100 * outcome.utility))
    return points
