# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Hold a latency by answering with less depth instead of late."""
import logging
import threading
import time
from collections import deque
from typing import Any, Deque, Dict, Optional, Sequence

import numpy as np

from .operating_curve import CurvePoint
from .segment_costs import image_milliseconds

__all__ = ['Controller', 'Load']

LOGGER = logging.getLogger(__name__)
# Shares of the latency target: an expected wait above HIGH leads to a cheaper
# point, one above LIMIT to refusals at the cheapest; only below LOW, and with
# so much of the workers' time to spare, a better one is tried.
LOW, HIGH, LIMIT = 0.3, 0.5, 0.7
BUSY_DOWN, BUSY_UP = 0.85, 0.7
# Seconds of calm before each step up, and between two looks.
CALM, INTERVAL = 2., 0.1
# Seconds over which loads are averaged.
WINDOW = 1.


class Load:
    """What a service has to do, counted by it and averaged here.

    Attributes:
        arrived (int): Images so far.
        pending (int): Images that have no answer yet.
        spent (deque): When images were answered, and after how many
            milliseconds, all included.
        busy_ms, measured_ms (float): Time of the workers so far, and what
            the same batches took when the segments were measured.
        preparing_ms (float): Of an image, averaged.
    """

    def __init__(self) -> None:
        self.arrived = 0
        self.pending = 0
        self.spent: Deque[Any] = deque(maxlen=4096)
        self.busy_ms = self.measured_ms = self.preparing_ms = 0.

    def answered(self, milliseconds: float, preparing: float) -> None:
        """An image got its answer."""
        self.spent.append((time.monotonic(), milliseconds))
        self.preparing_ms += 0.05 * (preparing - self.preparing_ms)

    def p99(self, since: float) -> float:
        """Milliseconds of the answers since a moment; 0 without any."""
        spent = [ms for when, ms in list(self.spent) if when >= since]
        return float(np.percentile(spent, 99)) if spent else 0.


class Controller:
    """Moves a scheduler along a curve of operating points.

    Ten times a second, and whenever a request arrives, it compares what is
    under way with the target. If that would take too long it goes down to
    the deepest point that the workers keep up with; after two seconds of
    calm it goes up, step by step. At the cheapest point it refuses what would
    be late. Each image keeps the point it came with.

    Args:
        scheduler (StagedScheduler): What it steers, by its ``policy``.
        load (Load): What there is to do.
        points (Sequence[CurvePoint]): From the cheapest to the best.
        slo_ms (float): The target: 99 of 100 images get an answer in so many
            milliseconds.
        start (bool): Whether to look by itself. Defaults to True.

    Raises:
        ValueError: If the target is not above what one image takes alone at
            the cheapest point.
    """

    def __init__(self,
                 scheduler: Any,
                 load: Load,
                 points: Sequence[CurvePoint],
                 slo_ms: float,
                 start: bool = True) -> None:
        self.scheduler, self.load = scheduler, load
        self.points, self.slo_ms = list(points), slo_ms
        costs, sizes = scheduler.costs, scheduler.sizes
        self.costs = [
            image_milliseconds(costs, sizes, p.shares) for p in self.points
        ]
        self._spacing = [scheduler.spacing(p.shares) for p in self.points]
        if not slo_ms > costs.alone:
            raise ValueError(
                f'a latency target of {slo_ms:g} ms cannot be held: one image '
                f'alone takes {costs.alone:.1f} ms to the last exit')
        self.current = len(self.points) - 1
        # The cheapest point that is still used.
        self.floor = 0
        self._numbers = {id(p.policy): k for k, p in enumerate(self.points)}
        self.changes: Deque[Dict[str, Any]] = deque(maxlen=200)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._changed = self._restless = self._looked = time.monotonic()
        self._drained = 0.  # when what waited at the last step down has gone
        self._marks: Deque[Any] = deque([(self._changed, 0, 0., 0.)])
        scheduler.policy = self.points[self.current].policy
        self._thread = threading.Thread(
            target=self._watch, name='controller', daemon=True)
        if start:
            self._thread.start()

    def number(self, policy: Any) -> Optional[int]:
        """The number of a policy on the curve."""
        return self._numbers.get(id(policy))

    def describe(self) -> Dict[str, Any]:
        """The curve, the point in force, and how it changed."""
        return dict(
            slo_ms=self.slo_ms,
            current=self.current,
            floor=self.floor,
            points=[
                dict(
                    thresholds=p.policy.thresholds,
                    accuracy=p.accuracy,
                    shares=p.shares,
                    macs=p.macs,
                    milliseconds=cost)
                for p, cost in zip(self.points, self.costs)
            ],
            changes=list(self.changes))

    def refusal(self) -> Optional[str]:
        """Why a request that comes now is refused, if it is."""
        if self.wait_ms() <= HIGH * self.slo_ms:
            return None
        if time.monotonic() - self._looked > INTERVAL / 5:
            self.look()
        wait = self.wait_ms()
        if self.current > self.floor or wait <= LIMIT * self.slo_ms:
            return None
        return (f'the answer would take about {wait:.0f} ms more at the '
                f'cheapest operating point, and {self.slo_ms:g} ms are the '
                f'target')

    def wait_ms(self) -> float:
        """How long what is under way keeps the workers busy, in full batches
        at the point in force."""
        return self.load.pending * self._cost(self.current)

    def _cost(self, index: int) -> float:
        """Milliseconds between two images, as measured, at a point."""
        load, (_, _, busy, measured) = self.load, self._marks[0]
        factor = 1.
        if load.measured_ms > measured:
            factor = (load.busy_ms - busy) / (load.measured_ms - measured)
        return max(1., factor) * self._spacing[index] + load.preparing_ms

    def look(self) -> None:
        """Compare the load with the target, and move if need be."""
        with self._lock:
            now, load = time.monotonic(), self.load
            self._looked = now
            self._marks.append(
                (now, load.arrived, load.busy_ms, load.measured_ms))
            while len(self._marks) > 2 and self._marks[0][0] < now - WINDOW:
                self._marks.popleft()
            when, arrived, _, _ = self._marks[0]
            rate = (load.arrived - arrived) / max(now - when, INTERVAL) / 1000
            wait = self.wait_ms()
            p99 = load.p99(max(self._changed, now - WINDOW))
            if wait > HIGH * self.slo_ms or p99 > self.slo_ms:
                self._restless = now
                if now > self._drained or wait > LIMIT * self.slo_ms:
                    self._drained = now + wait / 1000
                    self._down(
                        rate, f'{wait:.0f} ms of work wait, p99 is '
                        f'{p99:.0f} ms')
                return
            top = self.current == len(self.points) - 1
            if top or wait > LOW * self.slo_ms or \
                    rate * self._cost(self.current + 1) > BUSY_UP:
                self._restless = now
            elif now - self._restless > CALM:
                self._restless = now
                self._move(self.current + 1,
                           f'{CALM:g} s of calm, p99 is {p99:.0f} ms')

    def _down(self, rate: float, reason: str) -> None:
        """Go to the deepest cheaper point that the workers keep up with.

        What waits still has the point before: the next step is taken when it
        should have gone, or when it gets much more.
        """
        able = [
            index for index in range(self.floor, self.current)
            if rate * self._cost(index) <= BUSY_DOWN
        ]
        if self.current > self.floor:
            self._move(max(able, default=self.floor), reason)

    def give_up(self, index: int) -> None:
        """Use a point no more, nor cheaper ones, unless it is the best."""
        with self._lock:
            floor = min(index + 1, len(self.points) - 1)
            if floor <= self.floor:
                return
            self.floor = floor
            LOGGER.warning('operating points below %d of %d are given up',
                           floor,
                           len(self.points) - 1)
            if self.current < floor:
                self._restless = time.monotonic()
                self._move(floor, f'point {index} is given up')

    def _move(self, index: int, reason: str) -> None:
        """Put a point in force."""
        before, self.current = self.current, index
        self._changed = time.monotonic()
        point = self.points[index]
        self.scheduler.policy = point.policy
        self.changes.append(
            dict(time=time.time(), before=before, after=index, reason=reason))
        LOGGER.info(
            'operating point %d -> %d of %d (accuracy %.4f on the held-out '
            'images): %s', before, index,
            len(self.points) - 1, point.accuracy, reason)

    def _watch(self) -> None:
        """Look again and again."""
        while not self._stop.wait(INTERVAL):
            self.look()

    def close(self) -> None:
        """Stop looking."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
