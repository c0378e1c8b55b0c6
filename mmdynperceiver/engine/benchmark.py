# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Several networks, timed side by side."""
import copy
import statistics
import weakref
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..core import (ExitPolicy, HeldOut, Prediction, as_images, average_groups,
                    confidences, run_all_exits, solve_by_shares)
from .latency import early_exit_pass, exit_passes, summary, time_in_turn

__all__ = [
    'Contender', 'compare', 'compare_training', 'early_exit_contender',
    'peak_memory', 'policy_for_shares', 'static_contender', 'top1_per_exit'
]

# Images of one untimed pass.
EVAL_BATCH = 32


@dataclass
class Contender:
    """A network to time.

    Args:
        name (str): Of the config or of the torchvision network.
        mode (str): How it runs, one of ``core.MODES``.
        passes (Sequence[Callable]): For each exit, what runs a batch
            (B, 3, H, W) to it; one for a static network.
        all_exits (Callable): Batch -> logits (B, K) of each exit.
        dynamic (Callable, optional): Batch -> prediction under the
            thresholds. Defaults to None, no thresholds.
        macs (Sequence[int], optional): Cumulative MACs of each exit.
            Defaults to None, not known.
        train_step (Callable, optional): Batch -> None: forward, loss and
            backward of a copy in training mode. Defaults to None.
    """

    name: str
    mode: str
    passes: Sequence[Callable[[Tensor], Any]]
    all_exits: Callable[[Tensor], Sequence[Tensor]]
    dynamic: Optional[Callable[[Tensor], Prediction]] = None
    macs: Optional[Sequence[int]] = None
    train_step: Optional[Callable[[Tensor], None]] = None


def early_exit_contender(name: str,
                         mode: str,
                         model: nn.Module,
                         image_shape: Sequence[int],
                         policy: Optional[ExitPolicy] = None) -> Contender:
    """Enter a model with exits.

    Args:
        name (str): Its name.
        mode (str): How it runs.
        model (nn.Module): The model, in that mode already.
        image_shape (Sequence[int]): (3, H, W), or (M, 3, H, W) of videos,
            for the MACs.
        policy (ExitPolicy, optional): Where images leave. Defaults to None,
            no dynamic mean.
    """
    trunk, exits = model.exit_parts()
    return Contender(
        name, mode, exit_passes(model), lambda batch: _all_exits(
            (trunk, exits), batch),
        None if policy is None else early_exit_pass(model, policy),
        model.macs_per_exit(image_shape),
        _train_step(nn.ModuleList([trunk, exits]), _all_exits)
        if mode == 'eager' else None)


def _all_exits(parts: Any, batch: Tensor) -> Sequence[Tensor]:
    """Logits of each exit, of images or of videos."""
    images, group = as_images(batch)
    return [
        average_groups(logits, group)
        for logits in run_all_exits(*parts, images)
    ]


def static_contender(name: str, net: nn.Module) -> Contender:
    """Enter a network that returns logits, as it is.

    Args:
        name (str): Its name.
        net (nn.Module): Images (B, 3, H, W) -> logits (B, K).
    """
    net = net.eval()
    return Contender(
        name,
        'eager', [net],
        lambda batch: (net(batch), ),
        train_step=_train_step(net, lambda net, batch: (net(batch), )))


def _train_step(
    net: nn.Module, forward: Callable[[nn.Module, Tensor], Sequence[Tensor]]
) -> Callable[[Tensor], None]:
    """Forward, a cross-entropy at each exit, and backward, all of class 0."""

    def step(batch: Tensor) -> None:
        norms = copy.deepcopy(list(net.buffers()))
        net.train()
        with torch.inference_mode(False), torch.enable_grad():
            target = batch.new_zeros(len(batch), dtype=torch.long)
            loss = sum(
                F.cross_entropy(logits, target)
                for logits in forward(net, batch))
            torch.autograd.backward(loss)
        net.zero_grad()
        net.eval()
        for buffer, value in zip(net.buffers(), norms):
            buffer.copy_(value)  # the running statistics stay

    return step


@torch.no_grad()
def policy_for_shares(model: nn.Module, images: Tensor,
                      shares: Sequence[float]) -> ExitPolicy:
    """Thresholds at which given shares of these very images leave.

    For timing alone: nothing is held out.

    Args:
        model (nn.Module): An early-exit model.
        images (Tensor): Normalised images (N, 3, H, W).
        shares (Sequence[float]): One for each exit, summing to 1.

    Raises:
        ValueError: If the shares do not fit.
    """
    trunk, exits = model.exit_parts()
    logits = [
        torch.cat(parts)
        for parts in zip(*(_all_exits((trunk, exits), batch)
                           for batch in images.split(EVAL_BATCH)))
    ]
    conf = confidences(logits).cpu()
    held_out = HeldOut(conf, torch.zeros_like(conf, dtype=torch.bool))
    return ExitPolicy(exits.num_exits, solve_by_shares(held_out, shares))


def compare(contenders: Sequence[Contender],
            images: Tensor,
            batch_size: int,
            runs: int = 50,
            warmup: int = 10,
            base: int = 0) -> List[Dict[str, Any]]:
    """Time all contenders in turn, each exit and the dynamic pass.

    Ratios are medians over the rounds of what was timed in one round, on one
    batch, so that a machine that slows down in between does not touch them.

    Args:
        contenders (Sequence[Contender]): What to time.
        images (Tensor): Normalised images (N, 3, H, W).
        batch_size (int): Images in a batch, at most N.
        runs (int): Timed rounds. Defaults to 50.
        warmup (int): Untimed rounds before. Defaults to 10.
        base (int): The contender whose last exit ``of_base`` refers to.
            Defaults to 0.

    Returns:
        list[dict]: For each contender ``exits``, a list of ``exit``,
        ``median_ms``, ``p90_ms``, ``p99_ms``, ``min_ms`` of a batch and
        ``of_base``; ``images_per_s`` through all exits; and, with
        thresholds, ``dynamic`` (see :func:`_dynamic_row`).
    """
    count = len(images) // batch_size
    batches = list(images[:count * batch_size].split(batch_size))
    passes: List[Callable[[Tensor], Any]] = []
    starts = []
    for contender in contenders:
        starts.append(len(passes))
        passes.extend(contender.passes)
        if contender.dynamic is not None:
            passes.append(contender.dynamic)
    times = time_in_turn(passes, batches, runs, warmup)
    reference = times[starts[base] + len(contenders[base].passes) - 1]
    return [
        _row(contender, batches,
             times[start:start + len(contender.passes) + 1], reference)
        for contender, start in zip(contenders, starts)
    ]


def _row(contender: Contender, batches: Sequence[Tensor],
         times: Sequence[Sequence[float]],
         reference: Sequence[float]) -> Dict[str, Any]:
    """One contender's part of what :func:`compare` returns."""
    size = len(batches[0])
    count = len(contender.passes)
    exits = [
        dict(
            summary(values), exit=k, of_base=_median_ratio(values, reference))
        for k, values in enumerate(times[:count])
    ]
    for index, macs in enumerate(contender.macs or ()):
        exits[index]['macs'] = macs
    row: Dict[str, Any] = dict(
        name=contender.name,
        mode=contender.mode,
        batch_size=size,
        exits=exits,
        images_per_s=1000 * size / exits[-1]['median_ms'])
    if contender.dynamic is not None:
        row['dynamic'] = _dynamic_row(contender, batches, times, reference)
    return row


@torch.inference_mode()
def _dynamic_row(contender: Contender, batches: Sequence[Tensor],
                 times: Sequence[Sequence[float]],
                 reference: Sequence[float]) -> Dict[str, Any]:
    """What leaving early came to.

    Args:
        contender (Contender): With a dynamic pass.
        batches (Sequence[Tensor]): What was timed.
        times (Sequence[Sequence[float]]): Of each exit, then of the dynamic
            pass.
        reference (Sequence[float]): Times of the base.

    Returns:
        dict: ``mean_ms`` of a batch and its percentiles; ``images_per_s``;
        the ``shares`` of each exit; ``of_base`` and ``of_last``, against the
        last exit; ``of_ideal``, against the exits' times in the same round
        weighted by the shares of the batch.
    """
    assert contender.dynamic is not None
    *exit_times, dynamic = times
    size = len(batches[0])
    shares = []
    for batch in batches:
        left = contender.dynamic(batch).exit_index.bincount(
            minlength=len(exit_times))
        shares.append((left / size).tolist())
    rounds = range(len(dynamic))
    ideal = [
        sum(share * values[r]
            for share, values in zip(shares[r % len(batches)], exit_times))
        for r in rounds
    ]
    used = [shares[r % len(batches)] for r in rounds]
    mean = statistics.fmean(dynamic)
    return dict(
        summary(dynamic),
        mean_ms=mean,
        images_per_s=1000 * size / mean,
        shares=[statistics.fmean(column) for column in zip(*used)],
        of_base=sum(dynamic) / sum(reference),
        of_last=sum(dynamic) / sum(exit_times[-1]),
        of_ideal=_median_ratio(dynamic, ideal))


def compare_training(contenders: Sequence[Contender],
                     images: Tensor,
                     batch_size: int,
                     runs: int = 5,
                     warmup: int = 1,
                     base: int = 0) -> List[Dict[str, Any]]:
    """Time a training step of each contender that has one, in turn.

    The loss is the plain sum of the exits' cross-entropies; the optimiser is
    not included.

    Args:
        contenders (Sequence[Contender]): What to time.
        images (Tensor): Normalised images (N, 3, H, W).
        batch_size (int): Images in a step, at most N.
        runs (int): Timed rounds. Defaults to 5.
        warmup (int): Untimed rounds before. Defaults to 1.
        base (int): The contender that ``of_base`` refers to. Defaults to 0.

    Returns:
        list[dict]: ``name``, ``batch_size``, the times as in
        :func:`compare`, ``of_base``, ``peak_memory_mib`` and, against the
        base, ``memory_of_base``.
    """
    entered = [c for c in contenders if c.train_step is not None]
    batch = images[:batch_size]
    steps = [c.train_step for c in entered if c.train_step is not None]
    times = time_in_turn(steps, [batch], runs, warmup)
    memory = [peak_memory(step, batch) for step in steps]
    first = entered.index(contenders[base])
    return [
        dict(
            summary(values),
            name=contender.name,
            batch_size=batch_size,
            of_base=_median_ratio(values, times[first]),
            peak_memory_mib=peak,
            memory_of_base=peak / memory[first])
        for contender, values, peak in zip(entered, times, memory)
    ]


def _median_ratio(values: Sequence[float], others: Sequence[float]) -> float:
    """Median over the rounds."""
    return statistics.median(a / b for a, b in zip(values, others))


@torch.inference_mode()
def top1_per_exit(contender: Contender, images: Tensor,
                  labels: Tensor) -> Dict[str, Any]:
    """Top-1 accuracy in percent.

    Args:
        contender (Contender): Whose accuracy.
        images (Tensor): Normalised images (N, 3, H, W).
        labels (Tensor): Their classes (N,).

    Returns:
        dict: ``exits``, one number each, and ``dynamic`` where there are
        thresholds.
    """
    batches = list(zip(images.split(EVAL_BATCH), labels.split(EVAL_BATCH)))
    right = [[(logits.argmax(1) == target).sum().item()
              for logits in contender.all_exits(batch)]
             for batch, target in batches]
    found: Dict[str, Any] = dict(
        exits=[100 * sum(column) / len(labels) for column in zip(*right)])
    if contender.dynamic is not None:
        hits = sum(
            (contender.dynamic(batch).logits.argmax(1) == target).sum().item()
            for batch, target in batches)
        found['dynamic'] = 100 * hits / len(labels)
    return found


def peak_memory(run: Callable[[Tensor], Any], batch: Tensor) -> float:
    """Most memory that tensors take at once during a pass, in MiB.

    On a GPU what PyTorch allocates; on a CPU the tensors that operators
    return, without the weights, the images and what an operator needs inside
    (nor what a compiled graph does).

    Args:
        run (Callable): The pass.
        batch (Tensor): Images (B, 3, H, W).
    """
    if batch.is_cuda:
        torch.cuda.reset_peak_memory_stats(batch.device)
        before = torch.cuda.memory_allocated(batch.device)
        run(batch)
        torch.cuda.synchronize(batch.device)
        peak = torch.cuda.max_memory_allocated(batch.device) - before
    else:
        with _LiveTensors() as counter:
            run(batch)
        peak = counter.peak
    return peak / 2**20


class _LiveTensors(TorchDispatchMode):
    """Adds up the storages that operators make, while they live."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._live: Dict[int, Tuple[Any, int]] = {}

    def __torch_dispatch__(self,
                           func: Any,
                           types: Any,
                           args: Any = (),
                           kwargs: Any = None) -> Any:
        """Run an operator and note what is new."""
        out = func(*args, **(kwargs or {}))
        known = {
            leaf.untyped_storage()._cdata
            for leaf in tree_leaves((args, kwargs))
            if isinstance(leaf, Tensor)
        }
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._note(leaf.untyped_storage(), known)
        return out

    def _note(self, storage: Any, known: set) -> None:
        """Count a storage until it is freed."""
        key = storage._cdata
        if key in known or key in self._live:
            return
        mark = weakref.ref(storage, lambda _: self._live.pop(key, None))
        self._live[key] = (mark, storage.nbytes())
        self.peak = max(self.peak, sum(n for _, n in self._live.values()))
