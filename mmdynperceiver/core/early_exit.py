# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The loop that joins trunk, exits and policy and really stops."""
from contextlib import contextmanager
from typing import Any, Iterator, NamedTuple, Optional, Tuple

import torch
from torch import Tensor, nn

from .exits import Exits
from .policy import ExitPolicy, Prediction
from .segments import SegmentedTrunk

__all__ = [
    'Carried', 'run_all_exits', 'run_early_exit', 'run_step',
    'running_stats_for_one'
]


class Carried(NamedTuple):
    """All that is carried from one exit to the next.

    Args:
        state (NamedTuple): The trunk's state, a named tuple of tensors.
        knowledge (Tensor, optional): The logits that an exit handed on.
        memory (Tensor, optional): What the policy remembers.
    """

    state: Any
    knowledge: Optional[Tensor] = None
    memory: Optional[Tensor] = None

    def select(self, rows: Tensor) -> 'Carried':
        """Keep some samples: one gather of each carried tensor."""

        def keep(tensor: Optional[Tensor]) -> Optional[Tensor]:
            return None if tensor is None else tensor.index_select(0, rows)

        return Carried(
            type(self.state)(*map(keep, self.state)), keep(self.knowledge),
            keep(self.memory))


def run_step(trunk: SegmentedTrunk, exits: Exits, index: int,
             carried: Carried) -> Tuple[Carried, Tensor]:
    """Run one segment and classify at its exit.

    Args:
        trunk (SegmentedTrunk): The network without its exits.
        exits (Exits): The classifiers.
        index (int): Segment and exit number.
        carried (Carried): What the step before left.

    Returns:
        tuple: What is carried on, and the logits (B, K).
    """
    state, features = trunk.segment(index, carried.state)
    logits, knowledge = exits.step(index, features, carried.knowledge)
    return Carried(state, knowledge, carried.memory), logits


def run_all_exits(trunk: SegmentedTrunk, exits: Exits,
                  images: Tensor) -> Tuple[Tensor, ...]:
    """Run everything.

    Args:
        trunk (SegmentedTrunk): The network without its exits.
        exits (Exits): The classifiers.
        images (Tensor): Normalised images (B, 3, H, W).

    Returns:
        tuple[Tensor]: Logits (B, K) of each exit, shallow to deep.
    """
    return exits(trunk(images))


@torch.no_grad()
def run_early_exit(trunk: SegmentedTrunk, exits: Exits, policy: ExitPolicy,
                   images: Tensor) -> Prediction:
    """Run each sample only as deep as the policy demands.

    After each exit the samples that stay are gathered into a smaller batch;
    finding them is the only host synchronisation of the exit. Every sample
    still under way has its result written at every exit, so the last write,
    at the exit where it leaves, is the one that remains.

    Args:
        trunk (SegmentedTrunk): The network without its exits.
        exits (Exits): The classifiers.
        policy (ExitPolicy): Decides who leaves.
        images (Tensor): Normalised images (B, 3, H, W).

    Returns:
        Prediction: In the order of ``images``.
    """
    carried = Carried(trunk.begin(images))
    batch = images.shape[0]
    rows: Optional[Tensor] = None
    out: Optional[Prediction] = None
    for index in range(policy.num_exits):
        if batch == 0 and index:
            break
        carried, logits = run_step(trunk, exits, index, carried)
        conf, leaves, memory = policy.decide(index, logits, carried.memory)
        carried = carried._replace(memory=memory)
        exit_index = torch.full_like(conf, index, dtype=torch.long)
        if out is None or rows is None:
            out = Prediction(logits, exit_index, conf)
        else:
            out.logits.index_copy_(0, rows, logits)
            out.exit_index.index_copy_(0, rows, exit_index)
            out.confidence.index_copy_(0, rows, conf)
        if index == policy.num_exits - 1 or policy.thresholds is None:
            continue
        stay = leaves.logical_not().nonzero().squeeze(1)
        if stay.numel() == 0:
            break
        if stay.numel() < leaves.numel():
            carried = carried.select(stay)
            rows = stay if rows is None else rows.index_select(0, stay)
    assert out is not None
    return out


@contextmanager
def running_stats_for_one(module: nn.Module, batch: int) -> Iterator[None]:
    """Let batch norms use their running statistics for a batch of one.

    A last batch of a single image has no statistics for the pooled vectors
    in the exits, nor for 1x1 feature maps, and PyTorch refuses it. While the
    batch is larger, or the module is not in training, this does nothing.
    SyncBatchNorm is left alone: it sees the other processes' samples, and
    they wait for this one.

    Args:
        module (nn.Module): Whose batch norms to switch.
        batch (int): Number of samples in the batch.
    """
    norms = []
    if batch == 1 and module.training:
        norms = [
            layer for layer in module.modules()
            if isinstance(layer, (nn.BatchNorm1d,
                                  nn.BatchNorm2d)) and layer.training
        ]
    for layer in norms:
        layer.eval()
    try:
        yield
    finally:
        for layer in norms:
            layer.train()
