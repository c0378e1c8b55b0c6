# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Large batches in micro-batches, whose maps the allocator keeps."""
from typing import Any, Callable, List, Optional, Sequence, Tuple

import torch
from torch import Tensor

from .copies import called_without_hooks, on_meta

__all__ = ['LARGEST_BLOCK', 'MicroBatches', 'measure_micro_batches']

# In bytes. A block above 32 MiB (the most that glibc's malloc raises its
# M_MMAP_THRESHOLD to) goes back to the system when it is freed, and whoever
# asks for it again gets it page by page, zeroed: for the maps of stage 1 that
# takes about as long as their convolutions. One such block in a segment does
# not hurt yet; by measurement micro-batches are best a little larger.
LARGEST_BLOCK = 40 * 2**20


class MicroBatches:
    """How many images of a batch run through a segment at once, on a CPU.

    ``growth`` is, for each segment, elements of its largest tensor over those
    of the map that it starts with; ``frames_per_clip`` images are not divided.
    """

    def __init__(self,
                 growth: Sequence[float],
                 frames_per_clip: int = 1) -> None:
        self.growth = tuple(growth)
        self.frames_per_clip = frames_per_clip

    def size(self, index: int, x: Tensor) -> int:
        """Images of a micro-batch of segment ``index``, whose map x
        (B, C, H, W) starts it: a power of two of clips, or all B."""
        batch = len(x)
        if x.device.type != 'cpu' or not batch:
            return batch
        largest = x[0].numel() * x.element_size() * self.growth[index]
        fitting = int(LARGEST_BLOCK / largest) // self.frames_per_clip
        size = self.frames_per_clip << max(0, fitting.bit_length() - 1)
        return min(size, batch)

    def run(self, segment: Callable[[int, Any], Any], index: int,
            state: Any) -> Tuple[Any, Tuple[Tensor, ...]]:
        """Run a segment, which takes its number and a state and returns the
        new state and pooled vectors, micro-batch by micro-batch."""
        size = self.size(index, state[0])
        if size == len(state[0]):
            return segment(index, state)
        done = []
        for start in range(0, len(state[0]), size):
            rows = (None if t is None else t[start:start + size]
                    for t in state)
            done.append(segment(index, type(state)(*rows)))
        states, vectors = zip(*done)
        return (type(state)(*map(_join, zip(*states))),
                tuple(map(torch.cat, zip(*vectors))))


def _join(parts: Sequence[Optional[Tensor]]) -> Optional[Tensor]:
    """One tensor of several, where there are any."""
    found = [part for part in parts if part is not None]
    return torch.cat(found) if found else None


@torch.no_grad()
def measure_micro_batches(trunk: Any,
                          image_size: Sequence[int]) -> Optional[MicroBatches]:
    """See how large the tensors of each segment become, without computing;
    None of a feature branch that reads numbers from its tensors."""
    trunk = on_meta(trunk)
    trunk.dtype = None
    largest = 0

    def note(output: Any) -> None:
        nonlocal largest
        if isinstance(output, Tensor):
            largest = max(largest, output.numel())

    images = torch.empty(trunk.frames_per_clip, 3, *image_size, device='meta')
    state = trunk.initial_state(images)
    growth: List[float] = []
    with called_without_hooks(trunk, note):
        for index in range(trunk.num_segments):
            first = largest = state[0].numel()
            try:
                state, _ = trunk.segment(index, state)
            except (NotImplementedError, RuntimeError):
                return None
            growth.append(largest / first)
    return MicroBatches(growth, trunk.frames_per_clip)
