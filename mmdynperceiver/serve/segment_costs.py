# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What each segment costs for batches of each size, measured."""
import time
from contextlib import ExitStack
from typing import Dict, List, NamedTuple, Protocol, Sequence, Tuple

import numpy as np

__all__ = ['SegmentCosts', 'Segments', 'image_milliseconds', 'measure_costs']

# A larger batch must save so much of an image's time to be worth the wait.
WORTH = 0.05


class Segments(Protocol):
    """A network in segments: :class:`~mmdynperceiver.deploy.Runner`, or
    :class:`~mmdynperceiver.core.numpy_segments.NumpySegments` of a network in
    torch."""

    @property
    def num_exits(self) -> int:
        """Number of segments, and of exits."""

    @property
    def image_shape(self) -> Tuple[int, ...]:
        """Shape (3, H, W) of a normalised image."""

    def step(self, index: int, tensors: Dict[str, np.ndarray],
             held: ExitStack) -> np.ndarray:
        """Run a segment; see :meth:`mmdynperceiver.deploy.Runner.step`."""


class SegmentCosts(NamedTuple):
    """Milliseconds of each segment for each size of batches.

    Args:
        sizes (tuple[int]): Sizes of batches, ascending, the first 1.
        milliseconds (tuple[tuple[float]]): For each segment, those of a
            whole batch of each size.
    """

    sizes: Tuple[int, ...]
    milliseconds: Tuple[Tuple[float, ...], ...]

    @property
    def alone(self) -> float:
        """Milliseconds of one image alone, through all segments."""
        return sum(
            self.of_batch(index, 1) for index in range(len(self.milliseconds)))

    def of_batch(self, index: int, size: int) -> float:
        """Milliseconds of a batch in a segment, between sizes by a line."""
        return float(np.interp(size, self.sizes, self.milliseconds[index]))

    def batch_size(self, index: int, most: int) -> int:
        """The size beyond which waiting for more images does not pay.

        The smallest one, up to ``most``, at which an image takes hardly
        longer than at the best size.
        """
        each = {
            size: total / size
            for size, total in zip(self.sizes, self.milliseconds[index])
            if size <= most
        }
        least = min(each.values())
        return min(size for size, cost in each.items()
                   if cost <= (1 + WORTH) * least)

    def per_image(self, sizes: Sequence[int]) -> List[float]:
        """Milliseconds of one image in each segment, at a size for each."""
        return [
            self.of_batch(index, size) / size
            for index, size in enumerate(sizes)
        ]


def reached(shares: Sequence[float]) -> np.ndarray:
    """Of all images, the shares that come to each segment, from those that
    leave at each exit."""
    return 1 - np.concatenate([[0], np.cumsum(shares)[:-1]])


def image_milliseconds(costs: SegmentCosts, sizes: Sequence[int],
                       shares: Sequence[float]) -> float:
    """Milliseconds of a worker that an image takes on average, in full
    batches, at some shares of the exits."""
    return float(np.dot(reached(shares), costs.per_image(sizes)))


def measure_costs(segments: Segments,
                  most: int = 16,
                  repeats: int = 5) -> SegmentCosts:
    """Measure every segment; a runtime also compiles what it needs.

    Args:
        segments (Segments): The network.
        most (int): Largest batch. Defaults to 16.
        repeats (int): How often each size is timed, in turn, after one run
            that is not; the least counts, which others on the machine
            disturb least. Defaults to 5.

    Raises:
        ValueError: If ``most`` is not positive.
    """
    if most < 1:
        raise ValueError(f'the largest batch must be at least 1, got {most}')
    sizes = sorted({1 << power for power in range(most.bit_length())} | {most})
    rng = np.random.default_rng(0)
    images = rng.standard_normal((most, *segments.image_shape))
    batch = images.astype(np.float32)
    runs = [[_time(segments, batch[:size]) for size in sizes]
            for _ in range(repeats + 1)]
    found = np.min(runs[1:], axis=0)
    return SegmentCosts(
        tuple(sizes), tuple(tuple(map(float, row)) for row in zip(*found)))


def _time(segments: Segments, images: np.ndarray) -> List[float]:
    """Milliseconds of each segment in one whole pass."""
    tensors, spent = dict(images=images), []
    with ExitStack() as held:
        for index in range(segments.num_exits):
            start = time.perf_counter()
            segments.step(index, tensors, held)
            spent.append(1000 * (time.perf_counter() - start))
    return spent
