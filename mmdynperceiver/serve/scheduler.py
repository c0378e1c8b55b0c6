# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Run the segments of a network for many requests at once.

There is a queue before each segment. A worker that is free runs the deepest
queue that is full, or in which an image is late; if there is none, the
shallowest that is not empty. So the images that stay after an exit
join those of other requests in batches that are full again, answers leave
while others go on, and nobody waits while a worker is idle.
"""
import threading
import time
from concurrent.futures import Future, InvalidStateError
from contextlib import ExitStack, suppress
from typing import Any, List, NamedTuple, Optional, Sequence

import numpy as np

from ..deploy.policy import Policy
from ..deploy.preprocessing import check_batch
from .row_ring import RowRing, Taken
from .segment_choice import Waiting, choose_segment
from .segment_costs import SegmentCosts, Segments, image_milliseconds, reached

__all__ = ['Observer', 'RefusedError', 'Served', 'StagedScheduler']


class RefusedError(RuntimeError):
    """A request is refused at once; the message says why."""


class Served(NamedTuple):
    """What one image gets.

    Args:
        logits (ndarray): Logits (K,) of the exit at which it left.
        exit_index (int): That exit, 0-based.
        confidence (float): Confidence there.
        milliseconds (float): From its arrival until it left.
        policy (Policy): What let it leave.
    """

    logits: np.ndarray
    exit_index: int
    confidence: float
    milliseconds: float
    policy: Policy


class Observer:
    """Is told what a scheduler does, in the worker's thread. For a subclass
    to fill in; here nothing is done with it."""

    def ran(self, index: int, size: int, milliseconds: float) -> None:
        """A segment ran on a batch."""

    def left(self, served: Served) -> None:
        """An image left."""


class _Row:
    """An image on its way."""

    __slots__ = ('future', 'policy', 'arrived', 'entered', 'memory')

    def __init__(self, policy: Policy, arrived: float) -> None:
        self.future: 'Future[Served]' = Future()
        self.policy = policy
        self.arrived = self.entered = arrived
        # What the policy remembers of the exits before.
        self.memory: Optional[np.ndarray] = None


_NOBODY = _Row(Policy(1), 0.)


class StagedScheduler:
    """Queues before the segments, and the threads that run them.

    What an image gets is what ``Runner.predict`` gives it, whatever else is
    under way.

    Args:
        segments (Segments): The network.
        policy (Policy): Decides who leaves, unless an image brings its own.
        costs (SegmentCosts): What the segments cost, for the size at which a
            queue counts as full.
        max_batch (int): Most images that run together. Defaults to 16.
        max_waiting (int): Most images that are under way; others are
            refused. Defaults to 128.
        max_wait_ms (float, optional): How long after its arrival an image
            is late, and goes before new ones. Defaults to None, what one
            image alone takes through all segments.
        workers (int): Threads that run segments. Defaults to 1.
        observer (Observer, optional): Is told what happens.
        places (Sequence[int], optional): Where segments run in places of
            their own: in how many each does. There is a worker for each of
            these, and no more batches of a segment run at the same time.
            Defaults to None, a worker runs any segment.

    Raises:
        ValueError: If a number is not positive.
    """

    def __init__(self,
                 segments: Segments,
                 policy: Policy,
                 costs: SegmentCosts,
                 max_batch: int = 16,
                 max_waiting: int = 128,
                 max_wait_ms: Optional[float] = None,
                 workers: int = 1,
                 observer: Optional[Observer] = None,
                 places: Optional[Sequence[int]] = None) -> None:
        for name, value in (('max_batch', max_batch),
                            ('max_waiting', max_waiting), ('workers', workers),
                            ('places', min(places or [1]))):
            if value < 1:
                raise ValueError(f'{name} must be at least 1, got {value}')
        workers = sum(places or [workers])
        self.segments, self.policy, self.costs = segments, policy, costs
        self.observer = observer or Observer()
        self.max_waiting, self.workers = max_waiting, workers
        exits = range(segments.num_exits)
        self.places = list(places or [workers] * len(exits))
        self._separate = places is not None
        self._running = [0] * len(exits)
        self.sizes = [costs.batch_size(index, max_batch) for index in exits]
        if max_wait_ms is None:
            max_wait_ms = costs.alone
        self._wait = max_wait_ms / 1000
        # A batch waits, and each worker may bring one and be at another.
        room = (2 * workers + 1) * max(self.sizes)
        self._queues = [
            RowRing(room if index else max_waiting) for index in exits
        ]
        self._ready = threading.Condition()
        self._count = 0
        self._closed = False
        self._threads = [
            threading.Thread(
                target=self._work, name=f'segments-{number}', daemon=True)
            for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self,
               image: np.ndarray,
               policy: Optional[Policy] = None) -> 'Future[Served]':
        """Let an image join; it need not be kept.

        Args:
            image (ndarray): Normalised pixels (3, H, W), float32.
            policy (Policy, optional): For this image. Defaults to None, the
                scheduler's own at this moment.

        Returns:
            Future: Gives a :class:`Served`. If it is cancelled, the image is
            dropped at the next exit.

        Raises:
            RefusedError: If too many are under way, or this is closed.
            TypeError: If it is no array of float32.
            ValueError: If it has another shape, or NaN or infinity in it.
        """
        batch = image[None] if isinstance(image, np.ndarray) else image
        check_batch(batch, self.segments.image_shape)
        row = _Row(policy or self.policy, time.perf_counter())
        with self._ready:
            if self._closed:
                raise RefusedError('the service is stopping')
            if self._count >= self.max_waiting or not self._queues[0].room:
                raise RefusedError(
                    f'the queues are full: {self._count} images are under '
                    f'way, and {self.max_waiting} are the most; try again '
                    f'later')
            self._count += 1
            self._queues[0].put(dict(images=batch), [0], [row])
            self._ready.notify()
        return row.future

    def spacing(self, shares: Sequence[float]) -> float:
        """Milliseconds between two images that the workers keep up with, in
        full batches, at some shares of the exits."""
        if not self._separate:
            return image_milliseconds(self.costs, self.sizes,
                                      shares) / self.workers
        each = reached(shares) * self.costs.per_image(self.sizes)
        return float((each / self.places).max())

    @property
    def waiting(self) -> List[int]:
        """How many images wait before each segment."""
        return [len(queue) for queue in self._queues]

    @property
    def under_way(self) -> int:
        """How many images have arrived and not left."""
        return self._count

    @property
    def alive(self) -> bool:
        """Whether all workers are at work."""
        return not self._closed and all(t.is_alive() for t in self._threads)

    def close(self, timeout: float = 30.) -> None:
        """Take no more images, finish those under way, and end the workers,
        for so many seconds."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()
        for thread in self._threads:
            thread.join(timeout)

    def _work(self) -> None:
        """Run segments until this is closed and nothing is under way."""
        while True:
            with self._ready:
                index = self._choose()
                while index is None:
                    if self._closed and not self._count:
                        self._ready.notify_all()
                        return
                    self._ready.wait()
                    index = self._choose()
                taken = self._queues[index].take(self.sizes[index])
                self._running[index] += 1
                if index + 1 < len(self._queues):
                    self._queues[index + 1].keep(len(taken.entries))
            self._run(index, taken)

    def _choose(self) -> Optional[int]:
        """The segment to run next."""
        able = [
            k for k, queue in enumerate(self._queues)
            if queue and self._running[k] < self.places[k] and self._fits(k)
        ]
        found = []
        for queue, size in zip(self._queues, self.sizes):
            first = queue.entries[0] if queue else _NOBODY
            found.append(
                Waiting(len(queue), size, first.arrived, first.entered))
        return choose_segment(able, found, time.perf_counter(), self._wait)

    def _fits(self, index: int) -> bool:
        """Whether those who stay have room before the next segment."""
        if index + 1 == len(self._queues):
            return True
        count = min(len(self._queues[index]), self.sizes[index])
        return self._queues[index + 1].room >= count

    def _run(self, index: int, taken: Taken) -> None:
        """Run a batch; if it fails, each image alone, to find out which."""
        rows = taken.entries
        alive = [k for k, row in enumerate(rows) if not row.future.cancelled()]
        groups = [alive] if alive else []
        stayed: List[_Row] = []
        left: List[Any] = [(rows[k], None) for k in range(len(rows))
                           if k not in alive]
        while groups:
            numbers = groups.pop()
            try:
                self._step(index, taken, numbers, stayed, left)
            except Exception as error:  # whatever a runtime raises
                if len(numbers) == 1:
                    left.append((rows[numbers[0]], error))
                else:
                    groups += [[number] for number in numbers]
        with self._ready:
            self._running[index] -= 1
            self._queues[index].free(taken)
            if index + 1 < len(self._queues):
                self._queues[index + 1].keep(-(len(rows) - len(stayed)))
            self._count -= len(left)
            # Images that wait in a queue may now be those of another worker.
            self._ready.notify_all()
        for row, answer in left:
            self._answer(row, answer)

    def _step(self, index: int, taken: Taken, numbers: List[int],
              stayed: List[_Row], left: List[Any]) -> None:
        """Run some images of a batch: who stays goes on to the next queue,
        who leaves to ``left``, with what it gets."""
        tensors = taken.tensors
        if len(numbers) < len(taken.entries):
            tensors = {name: value[numbers] for name, value in tensors.items()}
        rows = [taken.entries[number] for number in numbers]
        with ExitStack() as held:
            tensors, start = dict(tensors), time.perf_counter()
            logits = self.segments.step(index, tensors, held)
            now = time.perf_counter()
            # Before anything moves: if it fails, the batch is run again.
            self.observer.ran(index, len(rows), 1000 * (now - start))
            answers, confidence, leaves = _decide(index, logits, rows)
            stay = np.flatnonzero(~leaves)
            if len(stay):
                kept = [rows[k] for k in stay]
                for row in kept:
                    row.entered = now
                with self._ready:
                    self._queues[index + 1].keep(-len(kept))
                    self._queues[index + 1].put(tensors, stay, kept)
                stayed += kept
            for k in np.flatnonzero(leaves):
                row = rows[k]
                left.append((row,
                             Served(answers[k].copy(), index,
                                    float(confidence[k]),
                                    1000 * (now - row.arrived), row.policy)))

    def _answer(self, row: _Row, answer: Any) -> None:
        """Give an image what it gets; who has gone gets nothing."""
        if isinstance(answer, Served):
            self.observer.left(answer)
        with suppress(InvalidStateError):  # cancelled just now
            if isinstance(answer, Exception):
                row.future.set_exception(answer)
            elif answer is not None:
                row.future.set_result(answer)


def _decide(index: int, logits: np.ndarray, rows: Sequence[_Row]) -> Any:
    """What images get (B, K), their confidence (B,), and who leaves (B,).

    Images that arrived under different policies are decided on apart.
    """
    confidence = np.empty(len(rows), np.float32)
    leaves = np.empty(len(rows), bool)
    answers = logits
    policies = {id(row.policy): row.policy for row in rows}
    for key, policy in policies.items():
        who = [k for k, row in enumerate(rows) if id(row.policy) == key]
        memory = None
        if rows[who[0]].memory is not None:
            memory = np.stack([rows[k].memory for k in who])  # type: ignore
        decision = policy.decide(index, logits[who], memory)
        confidence[who], leaves[who] = decision.confidence, decision.leaves
        if policy.ensemble is not None:
            answers = logits.copy() if answers is logits else answers
            answers[who] = policy.answer(index, logits[who], decision.memory)
        if decision.memory is not None:
            for k, entry in zip(who, decision.memory):
                rows[k].memory = entry
    return answers, confidence, leaves
