# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""One graph for each exit and batch size, on memory that stays in place.

A graph runs a segment, classifies, decides, writes the results of its samples
to their places, and those who stay straight to where the next graph, of any
batch size, finds them. Only how many these are goes to the host.
"""
from typing import Any, Callable, Dict, NamedTuple, Protocol, Sequence, Tuple

import torch
from torch import Tensor

from ..early_exit import LoopState, average_groups, run_step
from ..policy import NEVER, ExitPolicy
from ..protocols import ExitClassifiers
from ..segments import SegmentedTrunk

__all__ = ['BucketGraphs', 'Capture', 'CudaCapture']

# Runs before a capture, in which libraries choose and allocate.
_WARM_UP = 2
# Sets of thresholds that are kept on the device.
_KEPT_THRESHOLDS = 64


class Capture(Protocol):
    """Makes work on tensors that stay in place repeatable."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """What does the work again, on the same memory."""

    def begin(self) -> None:
        """What was done before must be over."""

    def send(self, count: Tensor) -> None:
        """Begin to bring a number (1,) to the host."""

    def receive(self) -> int:
        """The number that was sent last."""


class CudaCapture:
    """CUDA graphs that share one pool of memory, since one runs at a time."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()
        self.host = torch.zeros(1, dtype=torch.long, pin_memory=True)
        self.arrived = torch.cuda.Event()
        self.used = torch.cuda.current_stream(device)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Warm up, capture, and return the replay."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            for _ in range(_WARM_UP):
                work()
        current.wait_stream(self.stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads, such as those that pin memory, go on meanwhile.
        with torch.cuda.graph(
                graph,
                pool=self.pool,
                stream=self.stream,
                capture_error_mode='thread_local'):
            work()
        return graph.replay

    def begin(self) -> None:
        """Wait for the stream that ran graphs last, if it is another."""
        current = torch.cuda.current_stream(self.device)
        if current != self.used:
            current.wait_stream(self.used)
            self.used = current

    def send(self, count: Tensor) -> None:
        """Copy to pinned memory without waiting."""
        self.host.copy_(count, non_blocking=True)
        self.arrived.record(torch.cuda.current_stream(self.device))

    def receive(self) -> int:
        """Wait for that copy."""
        self.arrived.synchronize()
        return int(self.host)


class _Place(NamedTuple):
    """Where the samples in front of a segment are: what is carried for them,
    and their places in the batch, each with one row more for those who are
    no longer under way; and ``ranks``, whose number ``size - 1`` is how many
    a batch of ``size`` left here."""

    carried: LoopState
    rows: Tensor
    ranks: Tensor


class BucketGraphs:
    """The graphs for images of one size.

    Args:
        trunk (SegmentedTrunk): The network, in eval mode.
        exits (ExitClassifiers): Its exits.
        policy (ExitPolicy): Its criterion and temperatures are captured,
            its thresholds are given to each run.
        images (Tensor): Some of these images (.., 3, H, W).
        buckets (Sequence[int]): Batch sizes in samples, rising.
        group (int): Images of one sample.
        capture (Capture): What makes a graph.
    """

    def __init__(self, trunk: SegmentedTrunk, exits: ExitClassifiers,
                 policy: ExitPolicy, images: Tensor, buckets: Sequence[int],
                 group: int, capture: Capture) -> None:
        self.trunk, self.exits = trunk, exits
        self.buckets, self.group, self.capture = buckets, group, capture
        self.limit = buckets[-1]
        self.last = policy.num_exits - 1
        # Whether what an exit answers with is more than its own logits.
        self.combines = policy.ensemble is not None
        device = images.device
        self._thresholds = torch.full((max(1, self.last), ),
                                      NEVER,
                                      dtype=torch.float64,
                                      device=device)
        self._known = {(NEVER, ) * self.last: self._thresholds.clone()}
        self._given: Any = (NEVER, ) * self.last
        self._policy = ExitPolicy(policy.num_exits, None, **policy.settings)
        # Numbers that a graph reads anew each time.
        numbers: Any = self._thresholds.unbind()
        self._policy.thresholds = numbers
        self._numbers = torch.arange(self.limit + 1, device=device)
        self._inside = torch.arange(group, device=device)
        self._batch = -1
        self._allocate(images)
        # The largest first: the smaller ones fit into its memory.
        self._replays: Dict[Tuple[int, int], Callable[[], None]] = {}
        for size in reversed(buckets):
            for index in range(policy.num_exits):
                self._replays[index, size] = self._record(index, size)

    def __len__(self) -> int:
        return len(self._replays)

    def _record(self, index: int, size: int) -> Callable[[], None]:
        """Capture one graph.

        Raises:
            RuntimeError: If something in it needs the host.
        """
        try:
            return self.capture.record(lambda: self._run(index, size))
        except RuntimeError as error:
            reason = str(error).strip().split('\n')[0]
            raise RuntimeError(
                f'the segment of exit {index} cannot be captured in batches '
                f'of {size}: {reason}. Use another mode') from error

    def _allocate(self, images: Tensor) -> None:
        """Run the largest batch once, to see what there is to keep."""
        blank = images.new_zeros((self.limit * self.group, *images.shape[1:]))
        carried = LoopState(self.trunk.initial_state(blank))
        self._places = [self._place(carried)]
        for index in range(self.last + 1):
            carried, logits = run_step(self.trunk, self.exits, index, carried)
            logits = average_groups(logits, self.group)
            conf, _, memory = self._policy.decide(index, logits,
                                                  carried.memory)
            carried = carried._replace(memory=memory)
            if index < self.last:
                self._places.append(self._place(carried))
        self._logits_dtype = logits.dtype
        # Logits, exit and confidence of each sample.
        self._results = conf.new_zeros(self.limit + 1, logits.shape[1] + 2)

    def _place(self, carried: LoopState) -> _Place:
        """Room for what is carried, in the layout that it has."""

        def room(tensor: Any, group: int) -> Any:
            if tensor is None:
                return None
            shape = ((self.limit + 1) * group, *tensor.shape[1:])
            made = tensor.new_zeros(shape)
            if tensor.ndim == 4 and tensor.is_contiguous(
                    memory_format=torch.channels_last):
                made = made.contiguous(memory_format=torch.channels_last)
            return made

        maps = (room(tensor, self.group) for tensor in carried.state)
        return _Place(
            LoopState(
                self.trunk.state_type(*maps),
                room(carried.knowledge, self.group), room(carried.memory, 1)),
            torch.full_like(self._numbers, self.limit),
            torch.zeros_like(self._numbers))

    def _run(self, index: int, size: int) -> None:
        """What a graph does."""
        place = self._places[index]
        carried = _sliced(place.carried, size, self.group)
        rows = place.rows[:size]
        carried, logits = run_step(self.trunk, self.exits, index, carried)
        logits = average_groups(logits, self.group)
        conf, leaves, memory = self._policy.decide(index, logits,
                                                   carried.memory)
        logits = self._policy.answer(index, logits, memory)
        here = torch.full_like(conf, index)
        self._results.index_copy_(
            0, rows,
            torch.cat([logits.to(conf.dtype), here[:, None], conf[:, None]],
                      1))
        if index == self.last:
            return
        after = self._places[index + 1]
        # True is larger than False: those of the batch who do not leave.
        stays = torch.gt(rows < self.limit, leaves)
        ranks = torch.cumsum(stays, 0, out=after.ranks[:size])
        # A number of the host's would have to be copied in a capture.
        to = torch.where(stays, ranks - 1, self._numbers[-1])
        after.rows.fill_(self.limit).index_copy_(0, to, rows)
        # Whoever leaves lands behind the last place of all.
        images = to if self.group == 1 else (to[:, None] * self.group +
                                             self._inside).flatten()
        _write(after.carried, carried._replace(memory=memory), images, to)

    def load(self, images: Tensor, thresholds: Sequence[float]) -> None:
        """Put images (B * group, 3, H, W) and thresholds in place."""
        first, batch = self._places[0], len(images) // self.group
        first.carried.state[0][:len(images)].copy_(images)
        if batch != self._batch:
            first.rows.copy_(self._numbers).masked_fill_(
                self._numbers >= batch, self.limit)
            self._batch = batch
        given = tuple(thresholds)
        if given != self._given:
            if len(self._known) >= _KEPT_THRESHOLDS:
                self._known.clear()
            if given not in self._known:
                self._known[given] = self._thresholds.new_tensor(given)
            self._thresholds.copy_(self._known[given])
            self._given = given

    def run(self, index: int, batch: int) -> int:
        """Run so many samples to an exit; how large a batch that was."""
        size = next(size for size in self.buckets if size >= batch)
        self._replays[index, size]()
        return size

    def send_count(self, index: int, size: int) -> None:
        """Begin to tell how many of a batch stay at an exit."""
        self.capture.send(self._places[index + 1].ranks[size - 1:size])

    def results(self, batch: int) -> Tuple[Tensor, Tensor, Tensor]:
        """Logits (B, K), exit (B,) and confidence (B,) of the samples, as
        tensors of their own."""
        found = self._results[:batch]
        return (found[:, :-2].to(self._logits_dtype, copy=True),
                found[:, -2].long(), found[:, -1].clone())


def _fields(carried: LoopState) -> Tuple[Any, ...]:
    """All tensors, those with a row for each sample last."""
    return (*carried.state, carried.knowledge, carried.memory)


def _sliced(carried: LoopState, size: int, group: int) -> LoopState:
    """The first samples, as views."""
    counts = (size * group, ) * (len(carried.state) + 1) + (size, )
    first: Any = (None if tensor is None else tensor[:count]
                  for tensor, count in zip(_fields(carried), counts))
    *state, knowledge, memory = first
    return LoopState(type(carried.state)(*state), knowledge, memory)


def _write(kept: LoopState, found: LoopState, images: Tensor,
           samples: Tensor) -> None:
    """Write each row to its place."""
    places = (images, ) * (len(kept.state) + 1) + (samples, )
    for room, tensor, to in zip(_fields(kept), _fields(found), places):
        if room is not None and tensor is not None:
            room.index_copy_(0, to, tensor)
