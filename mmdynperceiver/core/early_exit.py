# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The loop that joins trunk, exits and policy and really stops."""
from contextlib import contextmanager
from functools import partial
from typing import Any, Callable, Iterator, NamedTuple, Optional, Tuple

import torch
from torch import Tensor, nn

from .policy import ExitPolicy, Prediction
from .protocols import ExitClassifiers
from .segments import SegmentedTrunk

__all__ = [
    'ExitBatch', 'LoopState', 'as_images', 'average_groups', 'early_exit_loop',
    'scatter_rows', 'run_all_exits', 'run_early_exit', 'run_step',
    'running_stats_for_one'
]


class LoopState(NamedTuple):
    """All that is carried from one exit to the next, a row for each image (for
    each sample in ``memory``): the trunk's state, a named tuple of tensors;
    the logits that an exit handed on; what the policy remembers."""

    state: Any
    knowledge: Optional[Tensor] = None
    memory: Optional[Tensor] = None

    def select(self, rows: Tensor, group: int = 1) -> 'LoopState':
        """Keep samples by their numbers, each a group of images."""
        images = rows
        if group > 1:
            inside = torch.arange(group, device=rows.device)
            images = (rows[:, None] * group + inside).flatten()

        def keep(tensor: Optional[Tensor],
                 kept: Tensor = images) -> Optional[Tensor]:
            if tensor is None or not _is_channels_last(tensor):
                return None if tensor is None else tensor.index_select(0, kept)
            # index_select alone would lay it out anew.
            places = tensor.permute(0, 2, 3, 1).index_select(0, kept)
            return places.permute(0, 3, 1, 2)

        return LoopState(
            type(self.state)(*map(keep, self.state)), keep(self.knowledge),
            keep(self.memory, rows))


def _is_channels_last(tensor: Tensor) -> bool:
    """Whether a map (B, C, H, W) is stored so."""
    return tensor.ndim == 4 and tensor.is_contiguous(
        memory_format=torch.channels_last)


def as_images(inputs: Tensor) -> Tuple[Tensor, int]:
    """Images (B, 3, H, W) as they are, or those of videos (B, M, 3, H, W) as
    (B * M, 3, H, W); and how many of them are one sample: 1 or M."""
    # Anything else is refused when it runs.
    if isinstance(inputs, Tensor) and inputs.ndim == 5:
        # [B, M, 3, H, W] -> [B * M, 3, H, W]
        return inputs.flatten(0, 1), inputs.shape[1]
    return inputs, 1


def _whole_videos(trunk: SegmentedTrunk, images: Tensor,
                  group: int) -> Tuple[Tensor, int]:
    """Images and how many are a sample, as a trunk takes them: where it looks
    at one frame after the other, a row is a video."""
    if not trunk.frame_by_frame:
        return images, group
    if images.ndim == 4 and len(images) % trunk.frames_per_clip == 0:
        images = images.unflatten(0, (-1, trunk.frames_per_clip))
    return images, 1


def average_groups(logits: Tensor, group: int = 1) -> Tensor:
    """Average the logits (B * group, K) of the images that are one sample,
    such as a video, to (B, K).

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


def run_step(trunk: SegmentedTrunk, exits: ExitClassifiers, index: int,
             carried: LoopState) -> Tuple[LoopState, Tensor]:
    """Run one segment and classify at its exit: what is carried on, and the
    logits (B, K)."""
    state, features = trunk.segment(index, carried.state)
    logits, knowledge = exits.step(index, features, carried.knowledge)
    return LoopState(state, knowledge, carried.memory), logits


def run_all_exits(trunk: SegmentedTrunk,
                  exits: ExitClassifiers,
                  images: Tensor,
                  group: int = 1) -> Tuple[Tensor, ...]:
    """Logits (B, K) of each exit, shallow to deep, for normalised images (B *
    group, 3, H, W); those of a sample stand together.

    Raises:
        ValueError: If the images do not make up whole samples.
    """
    if trunk.captured is not None:
        found = trunk.captured.all_exits(exits, images, group)
        if found is not None:
            return found
    images, group = _whole_videos(trunk, images, group)
    all_logits = exits(trunk(images))
    if group == 1:
        return all_logits
    return tuple(average_groups(logits, group) for logits in all_logits)


class ExitBatch(NamedTuple):
    """The samples that are under way when they reach an exit: their places
    (B',) in the batch, None while none has left; who leaves (B',), boolean;
    what is carried for them; and the logits (B', K) that they get there."""

    exit: int
    rows: Optional[Tensor]
    leaves: Tensor
    carried: LoopState
    logits: Tensor


@torch.no_grad()
def early_exit_loop(policy: ExitPolicy,
                    carried: LoopState,
                    step: Callable[[int, LoopState], Tuple[LoopState, Tensor]],
                    on_exit: Callable[[ExitBatch], None],
                    group: int = 1) -> Tuple[Tensor, Tensor]:
    """Run each sample only as deep as the policy demands.

    After each exit the samples that stay are gathered into a smaller batch;
    finding them is the only host synchronisation of the exit. The logits of a
    sample that is a group of images, such as the frames of a video, are
    averaged before the decision.

    Args:
        policy (ExitPolicy): Decides who leaves.
        carried (LoopState): What the first step takes.
        step (Callable): Takes an exit's number and what is carried, runs on
            to that exit, and returns what is carried on and the logits
            (B' * group, K) that the policy decides on.
        on_exit (Callable): Takes over the results of an exit. It is called
            before those who leave are dropped.
        group (int): Images of one sample. Defaults to 1.

    Returns:
        tuple[Tensor]: Where each sample left (B,), and how sure (B,).
    """
    rows: Optional[Tensor] = None
    exit_index: Optional[Tensor] = None
    confidence: Optional[Tensor] = None
    batch = carried.state[0].shape[0]
    for index in range(policy.num_exits):
        if batch == 0 and index:
            break
        carried, logits = step(index, carried)
        logits = average_groups(logits, group)
        conf, leaves, memory = policy.decide(index, logits, carried.memory)
        carried = carried._replace(memory=memory)
        here = torch.full_like(conf, index, dtype=torch.long)
        # Written for all under way: the last write, at the exit where a
        # sample leaves, is the one that remains.
        if rows is None or exit_index is None or confidence is None:
            exit_index, confidence = here, conf
        else:
            exit_index.index_copy_(0, rows, here)
            confidence.index_copy_(0, rows, conf)
        answer = policy.answer(index, logits, memory)
        on_exit(ExitBatch(index, rows, leaves, carried, answer))
        if index == policy.num_exits - 1 or policy.thresholds is None:
            continue
        stay = leaves.logical_not().nonzero().squeeze(1)
        if stay.numel() == 0:
            break
        if stay.numel() < leaves.numel():
            carried = carried.select(stay, group)
            rows = stay if rows is None else rows.index_select(0, stay)
    assert exit_index is not None and confidence is not None
    return exit_index, confidence


def scatter_rows(whole: Optional[Tensor], rows: Optional[Tensor], part: Tensor,
                 batch: int) -> Tensor:
    """Write rows (B', ...) at their places, None for all, of a tensor (B, ...)
    that comes about exit by exit; others are not set."""
    if rows is None:
        return part
    if whole is None:
        whole = part.new_empty((batch, *part.shape[1:]))
    return whole.index_copy_(0, rows, part)


def run_early_exit(trunk: SegmentedTrunk,
                   exits: ExitClassifiers,
                   policy: ExitPolicy,
                   images: Tensor,
                   group: int = 1) -> Prediction:
    """Classify each sample at the exit where the policy lets it leave.

    Args:
        trunk (SegmentedTrunk): The network without its exits.
        exits (ExitClassifiers): The classifiers.
        policy (ExitPolicy): Decides who leaves.
        images (Tensor): Normalised images (B * group, 3, H, W); those of a
            sample stand together.
        group (int): Images of one sample. Defaults to 1.

    Returns:
        Prediction: For B samples, in the order of ``images``.

    Raises:
        ValueError: If the images do not fit, or make up no whole samples.
    """
    if trunk.captured is not None:
        found = trunk.captured.predict(exits, policy, images, group)
        if found is not None:
            return found
    images, group = _whole_videos(trunk, images, group)
    kept: Optional[Tensor] = None

    def on_exit(arrived: ExitBatch) -> None:
        nonlocal kept
        kept = scatter_rows(kept, arrived.rows, arrived.logits,
                            len(images) // group)

    exit_index, confidence = early_exit_loop(
        policy, LoopState(trunk.initial_state(images)),
        partial(run_step, trunk, exits), on_exit, group)
    assert kept is not None
    return Prediction(kept, exit_index, confidence)


@contextmanager
def running_stats_for_one(module: nn.Module, batch: int) -> Iterator[None]:
    """Let batch norms use their running statistics for a batch of one.

    A single image has no statistics for the pooled vectors in the exits, nor
    for 1x1 feature maps, and PyTorch refuses it. In larger batches and out of
    training this does nothing. SyncBatchNorm is left alone: it sees the other
    processes' samples, and they wait for this one.
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
