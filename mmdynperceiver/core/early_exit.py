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
    'Carried', 'as_images', 'average_groups', 'run_all_exits',
    'run_early_exit', 'run_step', 'running_stats_for_one'
]


class Carried(NamedTuple):
    """All that is carried from one exit to the next.

    Args:
        state (NamedTuple): The trunk's state, a named tuple of tensors with
            a row for each image.
        knowledge (Tensor, optional): The logits that an exit handed on, a
            row for each image.
        memory (Tensor, optional): What the policy remembers, a row for each
            sample.
    """

    state: Any
    knowledge: Optional[Tensor] = None
    memory: Optional[Tensor] = None

    def select(self, rows: Tensor, group: int = 1) -> 'Carried':
        """Keep some samples: one gather of each carried tensor.

        Args:
            rows (Tensor): Numbers of the samples to keep.
            group (int): Images of one sample. Defaults to 1.
        """
        images = rows
        if group > 1:
            inside = torch.arange(group, device=rows.device)
            images = (rows[:, None] * group + inside).flatten()

        def keep(tensor: Optional[Tensor],
                 kept: Tensor = images) -> Optional[Tensor]:
            return None if tensor is None else tensor.index_select(0, kept)

        return Carried(
            type(self.state)(*map(keep, self.state)), keep(self.knowledge),
            keep(self.memory, rows))


def as_images(inputs: Tensor) -> Tuple[Tensor, int]:
    """Lay a batch out as the trunk takes it.

    Args:
        inputs (Tensor): Images (B, 3, H, W), or the images of videos (B, M,
            3, H, W).

    Returns:
        tuple[Tensor, int]: Images (B, 3, H, W) or (B * M, 3, H, W), and how
        many of them are one sample: 1 or M.
    """
    if inputs.ndim == 5:
        # [B, M, 3, H, W] -> [B * M, 3, H, W]
        return inputs.flatten(0, 1), inputs.shape[1]
    return inputs, 1


def average_groups(logits: Tensor, group: int = 1) -> Tensor:
    """Average the logits of the images that are one sample, such as a video.

    Args:
        logits (Tensor): Logits (B * group, K); the images of a sample stand
            together.
        group (int): Images of one sample. Defaults to 1.

    Returns:
        Tensor: Logits (B, K).

    Raises:
        ValueError: If the images do not make up whole samples.
    """
    if not isinstance(group, int) or group < 1 or len(logits) % group:
        raise ValueError(
            f'{len(logits)} images do not make up samples of {group!r} '
            f'images each: the same number of frames, crops and clips must '
            f'come from each video')
    if group == 1:
        return logits
    # [B * group, K] -> [B, group, K] -> [B, K]
    return logits.unflatten(0, (-1, group)).mean(1)


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
def run_early_exit(trunk: SegmentedTrunk,
                   exits: Exits,
                   policy: ExitPolicy,
                   images: Tensor,
                   group: int = 1) -> Prediction:
    """Run each sample only as deep as the policy demands.

    After each exit the samples that stay are gathered into a smaller batch;
    finding them is the only host synchronisation of the exit. Every sample
    still under way has its result written at every exit, so the last write,
    at the exit where it leaves, is the one that remains.

    A sample may be a group of images, such as the frames of a video: their
    logits are averaged before the decision, and they leave together.

    Args:
        trunk (SegmentedTrunk): The network without its exits.
        exits (Exits): The classifiers.
        policy (ExitPolicy): Decides who leaves.
        images (Tensor): Normalised images (B * group, 3, H, W); those of a
            sample stand together.
        group (int): Images of one sample. Defaults to 1.

    Returns:
        Prediction: For B samples, in the order of ``images``.

    Raises:
        ValueError: If the images do not fit, or do not make up whole
            samples.
    """
    carried = Carried(trunk.begin(images))
    batch = images.shape[0]
    rows: Optional[Tensor] = None
    out: Optional[Prediction] = None
    for index in range(policy.num_exits):
        if batch == 0 and index:
            break
        carried, logits = run_step(trunk, exits, index, carried)
        logits = average_groups(logits, group)
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
            carried = carried.select(stay, group)
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
