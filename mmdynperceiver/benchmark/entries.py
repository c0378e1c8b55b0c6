# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What takes part in a benchmark."""
import copy
from dataclasses import dataclass
from typing import Any, Callable, NamedTuple, Optional, Sequence, Union

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..calibration.share_solver import solve_by_shares
from ..core import ExitPolicy, Prediction, run_all_exits
from ..core.accelerate.captured import GraphStatistics
from ..core.criteria import confidences
from ..core.early_exit import as_images
from ..core.protocols import EarlyExitNetwork
from .latency import early_exit_pass, exit_passes

__all__ = [
    'EVAL_BATCH', 'BenchmarkEntry', 'Left', 'all_exits_pass',
    'early_exit_entry', 'policy_for_shares', 'static_entry'
]

# Images of one untimed pass.
EVAL_BATCH = 32


class Left(NamedTuple):
    """Where the images of a batch left (B,), of a network that has boxes for
    them and no logits."""

    exit_index: Tensor


@dataclass
class BenchmarkEntry:
    """A network to time.

    Args:
        name (str): Of the config, the torchvision network or the folder.
        mode (str): How it runs: one of ``core.accelerate.compiled.MODES``, or
            of ``modes.DEPLOYED_MODES``.
        passes (Sequence[Callable]): For each exit, what runs a batch
            (B, 3, H, W) to it; one for a static network.
        all_exits (Callable): Batch -> logits (B, K) of each exit, or what a
            detector decides on there (B, 1).
        dynamic (Callable, optional): Batch -> prediction under the
            thresholds, or at least where images left. Defaults to None, no
            thresholds.
        macs (Sequence[int], optional): Cumulative MACs of each exit.
            Defaults to None, not known.
        train_step (Callable, optional): Batch -> None: forward, loss and
            backward of a copy in training mode. Defaults to None.
        graphs (Callable, optional): What its captured graphs did so far.
            Defaults to None, it has none.
    """

    name: str
    mode: str
    passes: Sequence[Callable[[Tensor], Any]]
    all_exits: Callable[[Tensor], Sequence[Tensor]]
    dynamic: Optional[Callable[[Tensor], Union[Prediction, Left]]] = None
    macs: Optional[Sequence[int]] = None
    train_step: Optional[Callable[[Tensor], None]] = None
    graphs: Optional[Callable[[], GraphStatistics]] = None


def early_exit_entry(name: str,
                     mode: str,
                     model: EarlyExitNetwork,
                     image_shape: Sequence[int],
                     policy: Optional[ExitPolicy] = None) -> BenchmarkEntry:
    """Enter a model with exits.

    Args:
        name (str): Its name.
        mode (str): How it runs; the model is in that mode already.
        model (EarlyExitNetwork): The model.
        image_shape (Sequence[int]): (3, H, W), or (M, 3, H, W) of videos,
            for the MACs.
        policy (ExitPolicy, optional): Where images leave. Defaults to None,
            no dynamic mean.
    """
    all_exits = all_exits_pass(model)
    captured = model.exit_parts()[0].captured
    return BenchmarkEntry(
        name, mode, exit_passes(model), all_exits,
        None if policy is None else early_exit_pass(model, policy),
        model.macs_per_exit(image_shape),
        _train_step(nn.ModuleList(model.exit_parts()), all_exits)
        if mode == 'eager' else None,
        None if captured is None else captured.statistics)


def all_exits_pass(
        model: EarlyExitNetwork) -> Callable[[Tensor], Sequence[Tensor]]:
    """The pass of an early-exit model that gives the logits of each exit."""
    trunk, exits = model.exit_parts()
    return lambda batch: run_all_exits(trunk, exits, *as_images(batch))


def static_entry(name: str, net: nn.Module) -> BenchmarkEntry:
    """Enter a network as it is: images (B, 3, H, W) -> logits (B, K), or those
    of several classifiers, of which the last one counts; a training step takes
    the losses of all."""
    net = net.eval()

    def all_logits(batch: Tensor) -> Sequence[Tensor]:
        found = net(batch)
        return (found, ) if isinstance(found, Tensor) else tuple(found)

    return BenchmarkEntry(
        name,
        'eager', [net],
        lambda batch: all_logits(batch)[-1:],
        train_step=_train_step(net, all_logits))


def _train_step(
    net: nn.Module,
    all_exits: Callable[[Tensor],
                        Sequence[Tensor]]) -> Callable[[Tensor], None]:
    """Forward, a cross-entropy at each exit, and backward, all of class 0."""

    def step(batch: Tensor) -> None:
        norms = copy.deepcopy(list(net.buffers()))
        net.train()
        with torch.inference_mode(False), torch.enable_grad():
            target = batch.new_zeros(len(batch), dtype=torch.long)
            loss = sum(
                F.cross_entropy(logits, target) for logits in all_exits(batch))
            torch.autograd.backward(loss)
        net.zero_grad()
        net.eval()
        for buffer, value in zip(net.buffers(), norms):
            buffer.copy_(value)  # the running statistics stay

    return step


@torch.no_grad()
def policy_for_shares(all_exits: Callable[[Tensor], Sequence[Tensor]],
                      images: Tensor,
                      shares: Sequence[float],
                      batch_size: int = EVAL_BATCH,
                      criterion: str = 'max_prob') -> ExitPolicy:
    """Thresholds at which given shares of these very images leave.

    For timing alone: nothing is held out.

    Args:
        all_exits (Callable): Batch -> logits (B, K) of each exit.
        images (Tensor): Normalised images (N, 3, H, W).
        shares (Sequence[float]): One for each exit, summing to 1.
        batch_size (int): Images of a batch; in low precision the numbers
            depend on it. Defaults to 32.
        criterion (str): What thresholds are compared with. Defaults to
            'max_prob'.

    Raises:
        ValueError: If the shares do not fit.
    """
    logits = [
        torch.cat(parts)
        for parts in zip(*map(all_exits, images.split(batch_size)))
    ]
    conf = confidences(logits, criterion).cpu()
    return ExitPolicy(len(logits), solve_by_shares(conf, shares), criterion)
