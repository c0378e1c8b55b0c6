# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What one replica or a thousand do, from measured costs of the segments.

Requests arrive at random (Poisson) and leave at exits by their shares. Each
replica has a worker that follows the scheduler's own rule
(:func:`~mmdynperceiver.serve.segment_choice.choose_segment`); of two replicas
drawn at random, the one with less under way gets a request, as Ray Serve does
it. Decoding, HTTP and other programs are left out.
"""
import heapq
import random
from collections import deque
from typing import Any, Callable, Deque, List, NamedTuple, Optional, Sequence

import numpy as np

from .segment_choice import Waiting, choose_segment
from .segment_costs import SegmentCosts

__all__ = ['Simulated', 'capacity', 'simulate']


class Simulated(NamedTuple):
    """What came of the requests.

    Args:
        milliseconds (ndarray): Of each answer.
        mean_batch (tuple[float]): Images in a batch of each segment.
        busy (float): Share of the time that workers ran.
    """

    milliseconds: np.ndarray
    mean_batch: Sequence[float]
    busy: float

    @property
    def p99(self) -> float:
        """Milliseconds that 99 of 100 answers keep."""
        return float(np.percentile(self.milliseconds, 99))


class _Image(NamedTuple):
    """An image on its way: when it arrived, and where it will leave."""

    arrived: float
    exit: int


class _Replica:
    """One worker with its queues; times are milliseconds."""

    def __init__(self, costs: SegmentCosts, most: int, staged: bool) -> None:
        exits = range(len(costs.milliseconds))
        self.costs, self.staged, self.most = costs, staged, most
        self.sizes = [costs.batch_size(k, most) for k in exits]
        # Images, each with the time when it came to the queue.
        self.queues: List[Deque[Any]] = [deque() for _ in exits]
        self.pending = 0
        self.running: Any = None
        self.batches: List[List[int]] = [[] for _ in exits]
        self.busy = 0.

    def start(self, now: float) -> Optional[float]:
        """Run a batch if there is one; when it ends."""
        index: Optional[int] = 0 if self.queues[0] else None
        if self.staged:
            able = [k for k, queue in enumerate(self.queues) if queue]
            found = []
            for queue, full in zip(self.queues, self.sizes):
                first, entered = queue[0] if queue else (_Image(0., 0), 0.)
                found.append(Waiting(len(queue), full, first.arrived, entered))
            index = choose_segment(able, found, now, self.costs.alone)
        if index is None:
            return None
        queue = self.queues[index]
        size = self.sizes[index] if self.staged else self.most
        images = [queue.popleft()[0] for _ in range(min(size, len(queue)))]
        spent = 0.
        for k in range(index, index + 1 if self.staged else len(self.queues)):
            count = sum(image.exit >= k for image in images)
            if count:
                spent += self.costs.of_batch(k, count)
                self.batches[k].append(count)
        self.running = (index, images)
        self.busy += spent
        return now + spent

    def finish(self, now: float) -> List[float]:
        """End the batch; milliseconds of the images that leave."""
        index, images = self.running
        self.running = None
        left = [i for i in images if not self.staged or i.exit == index]
        for image in images:
            if self.staged and image.exit > index:
                self.queues[index + 1].append((image, now))
        self.pending -= len(left)
        return [now - image.arrived for image in left]


def simulate(costs: SegmentCosts,
             shares: Sequence[float],
             rate: float,
             replicas: int = 1,
             images: int = 20_000,
             most: int = 16,
             staged: bool = True,
             seed: int = 0) -> Simulated:
    """Serve images that arrive at random.

    Args:
        costs (SegmentCosts): Of a replica.
        shares (Sequence[float]): Of the exits.
        rate (float): Images a second, for all replicas together.
        replicas (int): Their number. Defaults to 1.
        images (int): How many arrive. Defaults to 20,000.
        most (int): Largest batch. Defaults to 16.
        staged (bool): Whether by segments; else batches of those that wait
            run through the whole network. Defaults to True.
        seed (int): Of the random numbers. Defaults to 0.

    Raises:
        ValueError: If the shares do not fit, or a number is not positive.
    """
    exits = len(costs.milliseconds)
    if len(shares) != exits or abs(sum(shares) - 1) > 1e-6 or min(shares) < 0:
        raise ValueError(f'{exits} exits need {exits} shares that sum to 1, '
                         f'got {list(shares)}')
    if not (rate > 0 and replicas > 0 and images > 0):
        raise ValueError(f'rate, replicas and images must be positive, got '
                         f'{rate}, {replicas} and {images}')
    rng = random.Random(seed)
    found = [_Replica(costs, most, staged) for _ in range(replicas)]
    leaving = rng.choices(range(exits), shares, k=images)
    spent: List[float] = []
    # Ends of batches: when, and of which replica.
    ends: List[Any] = []
    now, done = 0., 0
    arrival = rng.expovariate(rate / 1000)
    while done < images or ends:
        if done < images and (not ends or arrival <= ends[0][0]):
            now = arrival
            number = min((rng.randrange(replicas) for _ in range(2)),
                         key=lambda k: found[k].pending)
            replica = found[number]
            replica.queues[0].append((_Image(now, leaving[done]), now))
            replica.pending += 1
            done += 1
            arrival = now + rng.expovariate(rate / 1000)
        else:
            now, number = heapq.heappop(ends)
            replica = found[number]
            spent += replica.finish(now)
        if replica.running is None:
            end = replica.start(now)
            if end is not None:
                heapq.heappush(ends, (end, number))
    return Simulated(
        np.array(spent),
        tuple(
            float(np.mean(sum((r.batches[k] for r in found), []) or [0]))
            for k in range(exits)),
        sum(r.busy for r in found) / (now * replicas))


def capacity(p99: Callable[[float], float],
             limit: float,
             low: float,
             high: float,
             steps: int = 10) -> float:
    """The highest rate at which 99 of 100 answers keep a limit.

    Args:
        p99 (Callable): Milliseconds at a rate.
        limit (float): Milliseconds.
        low, high (float): Rates between which it is looked for.
        steps (int): How often the range is halved. Defaults to 10.
    """
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (middle, high) if p99(middle) <= limit else (low, middle)
    return low
