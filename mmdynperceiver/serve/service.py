# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What a server of any kind asks: images in, answers out."""
import asyncio
import logging
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Deque, Dict, List, Optional, Sequence, Tuple

import numpy as np

from ..datasets.image_files import TooManyPixelsError
from ..deploy.policy import softmax
from ..deploy.runner import Runner
from ..io.describe import one_line
from .controller import Controller, Load
from .drift_watch import DriftWatch
from .metrics import Metrics
from .problems import Limits, Problem, say
from .scheduler import Observer, RefusedError, Served, StagedScheduler
from .segment_costs import SegmentCosts

__all__ = ['Recorder', 'Service']

LOGGER = logging.getLogger(__name__)
# Of how many answers the live figures are, and of how many seconds.
RECENT, SECONDS = 4096, 10.


class Recorder(Observer):
    """Notes what a scheduler does: for the metrics, for live figures, and in
    a :class:`~mmdynperceiver.serve.controller.Load`."""

    def __init__(self, metrics: Metrics, costs: SegmentCosts) -> None:
        self.metrics, self.costs = metrics, costs
        self.load = Load()
        # When each of the last images left, at which exit, after how long.
        self.recent: Deque[Tuple[float, int, float]] = deque(maxlen=RECENT)
        self.served = 0
        self.watch: Optional[DriftWatch] = None

    def ran(self, index: int, size: int, milliseconds: float) -> None:
        """A segment ran on a batch."""
        self.load.busy_ms += milliseconds
        self.load.measured_ms += self.costs.of_batch(index, size)
        self.metrics.ran(index, size, milliseconds)

    def left(self, served: Served) -> None:
        """An image left."""
        if self.watch is not None and self.watch.is_check(served.policy):
            return
        self.served += 1
        self.recent.append(
            (time.monotonic(), served.exit_index, served.milliseconds))
        self.metrics.left(served.exit_index, served.milliseconds)

    def last(self, seconds: float = SECONDS) -> List[Tuple[int, float]]:
        """Exits and milliseconds of the images that left just now."""
        since = time.monotonic() - seconds
        return [(index, spent) for when, index, spent in list(self.recent)
                if when >= since]


class _Job:
    """An image between its request and the scheduler."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.arrived = time.perf_counter()
        self.preparing = 0.
        # Pixels, if it is to be checked.
        self.image: Optional[np.ndarray] = None
        self.future: Optional['Future[Served]'] = None
        self.gone = False

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        self.gone = True
        if self.future is not None:
            self.future.cancel()


class Service:
    """Decodes images, lets the scheduler classify them, and keeps count.

    Args:
        runner (Runner): The network.
        scheduler (StagedScheduler): Runs it, with ``recorder`` as observer.
        recorder (Recorder): Notes what happens.
        limits (Limits): What a request may be.
        decoders (int): Threads that decode. Defaults to 2.
        controller (Controller, optional): Moves the operating point.
        watch (DriftWatch, optional): Checks some of the images.
    """

    def __init__(self,
                 runner: Runner,
                 scheduler: StagedScheduler,
                 recorder: Recorder,
                 limits: Limits,
                 decoders: int = 2,
                 controller: Optional[Controller] = None,
                 watch: Optional[DriftWatch] = None) -> None:
        self.runner, self.scheduler = runner, scheduler
        self.recorder, self.limits = recorder, limits
        self.controller = controller
        self.watch = recorder.watch = watch
        self.runner.preprocessing.max_pixels = limits.pixels
        self._pool = ThreadPoolExecutor(decoders, 'decode')
        self.started = time.monotonic()

    @property
    def ready(self) -> bool:
        """Whether images are classified."""
        return self.scheduler.alive

    async def classify(self,
                       files: Sequence[Tuple[str, bytes]],
                       top: int = 5) -> List[Dict[str, Any]]:
        """Classify the images of one request.

        If it is cancelled, or one image has no answer, the others of the
        request are dropped.

        Args:
            files (Sequence): The name of each image, and its bytes.
            top (int): How many classes are told. Defaults to 5.

        Raises:
            Problem: 413, 422, 503 or 504.
        """
        count = len(files)
        self._admit(count)
        jobs = [_Job(content) for _, content in files]
        answers: List['asyncio.Future[Served]'] = []
        try:
            answers += map(self._start, jobs)
            done, late = await asyncio.wait(
                answers,
                timeout=self.limits.request_seconds,
                return_when=asyncio.FIRST_EXCEPTION)
            for number, (name, _) in enumerate(files):
                if answers[number] in done:
                    _raise(answers[number].exception(), say(number, name),
                           self.limits.pixels)
            if late:
                raise Problem(
                    504, f'there was no answer within '
                    f'{self.limits.request_seconds:g} seconds; try again '
                    f'later')
            return [
                self._describe(name, job, answer.result(), top)
                for (name, _), job, answer in zip(files, jobs, answers)
            ]
        finally:
            for job in jobs:
                job.cancel()
            for left in answers:  # nobody asks what else went wrong
                if not left.cancel() and not left.cancelled():
                    left.exception()
            self.recorder.load.pending -= count

    def _admit(self, count: int) -> None:
        """Refuse a request at once if there are too many."""
        load, most = self.recorder.load, self.scheduler.max_waiting
        load.arrived += count
        reason = self.controller and self.controller.refusal()
        if not reason and load.pending + count > most:
            reason = (f'{load.pending} images are under way, and {most} are '
                      f'the most')
        if reason:
            raise Problem(503, f'too much to do: {reason}; try again later')
        load.pending += count

    def _start(self, job: _Job) -> 'asyncio.Future[Served]':
        """Decode an image in a thread, and hand it to the scheduler there."""
        loop, load = asyncio.get_running_loop(), self.recorder.load
        answer: 'asyncio.Future[Served]' = loop.create_future()

        def finish(future: 'Future[Served]') -> None:
            if future.cancelled():
                return
            if future.exception() is None:
                self._check(future.result(), job.image)
                load.answered(1000 * (time.perf_counter() - job.arrived),
                              job.preparing)
            try:
                loop.call_soon_threadsafe(_settle, answer, future)
            except RuntimeError:  # the server has stopped
                pass

        def work() -> None:
            future: 'Future[Served]' = Future()
            try:
                if job.gone:
                    return
                pixels, job.preparing = self.runner.prepare(job.content)
                if self.watch is not None and self.watch.choose():
                    job.image = pixels
                future = job.future = self.scheduler.submit(pixels)
                if job.gone:
                    future.cancel()
            except Exception as error:  # decoders raise whatever they like
                future.set_exception(error)
            future.add_done_callback(finish)

        self._pool.submit(work)
        return answer

    def _check(self, served: Served, image: Optional[np.ndarray]) -> None:
        """Let the monitor see an image; if it fails, the answer goes on."""
        if self.watch is None:
            return
        try:
            self.watch.left(served, image)
        except Exception:  # whatever it is, it is not the client's
            LOGGER.exception('the drift monitor failed')

    def _describe(self, name: str, job: _Job, served: Served,
                  top: int) -> Dict[str, Any]:
        """What is told of an image."""
        scores = softmax(served.logits)
        classes = self.runner.manifest.classes
        best = np.argsort(-scores, kind='stable')[:max(1, top)]
        found: Dict[str, Any] = {
            'class':
            classes[best[0]],
            'label':
            int(best[0]),
            'score':
            float(scores[best[0]]),
            'exit':
            served.exit_index,
            'confidence':
            served.confidence,
            'macs':
            self.runner.manifest.macs_per_exit[served.exit_index],
            'milliseconds':
            served.milliseconds,
            'preparing_milliseconds':
            job.preparing,
            'operating_point':
            self.point(served.policy),
            'top': [{
                'class': classes[k],
                'label': int(k),
                'score': float(scores[k])
            } for k in best]
        }
        return {'name': name, **found} if name else found

    def set_gauges(self) -> None:
        """Tell the metrics what is no event: queues and operating point."""
        metrics = self.recorder.metrics
        for index, count in enumerate(self.scheduler.waiting):
            metrics.add('waiting', str(index), count)
        number = self.point(self.scheduler.policy)
        if number is not None:
            metrics.add('operating_point', '', number)
        if self.watch is not None:
            metrics.add('drift', '', self.watch.differing())

    def point(self, policy: Any) -> Optional[int]:
        """The number of an operating point on the curve, if there is one."""
        return None if self.controller is None else \
            self.controller.number(policy)

    def live(self) -> Dict[str, Any]:
        """Figures of the last seconds."""
        last = self.recorder.last()
        exits = [index for index, _ in last]
        spent = [milliseconds for _, milliseconds in last] or [0.]
        count = np.bincount(exits, minlength=self.runner.num_exits)
        span = min(SECONDS, max(time.monotonic() - self.started, 1.))
        p50, p90, p99 = np.percentile(spent, [50, 90, 99])
        return dict(
            seconds=span,
            images=len(last),
            images_per_second=len(last) / span,
            shares=(count / max(1, len(last))).tolist(),
            milliseconds=dict(p50=p50, p90=p90, p99=p99),
            waiting=self.scheduler.waiting,
            under_way=self.scheduler.under_way,
            served=self.recorder.served,
            drift_alarms=self.watch and len(self.watch.alarms),
            operating_point=self.point(self.scheduler.policy),
            thresholds=self.scheduler.policy.thresholds)

    def close(self) -> None:
        """Finish what is under way, and stop."""
        if self.controller is not None:
            self.controller.close()
        self._pool.shutdown(wait=True)
        self.scheduler.close()


def _settle(answer: 'asyncio.Future[Served]',
            future: 'Future[Served]') -> None:
    """Hand on what the scheduler says, in the thread of the server."""
    if answer.done():
        return
    error = future.exception()
    if error is None:
        answer.set_result(future.result())
    else:
        answer.set_exception(error)


def _raise(error: Optional[BaseException], name: str, pixels: int) -> None:
    """Say what is wrong with an image, if there is anything."""
    if error is None:
        return
    if isinstance(error, RefusedError):
        raise Problem(503, str(error)) from error
    if isinstance(error, TooManyPixelsError):
        raise Problem(
            413, f'{name} has more than {pixels:,} pixels: make it '
            f'smaller') from error
    if isinstance(error, (ValueError, TypeError)):
        raise Problem(422, f'{name}: {one_line(error)}') from error
    raise error
