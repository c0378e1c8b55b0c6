# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Check some of the images served, and turn to safer points after an alarm."""
import threading
from concurrent.futures import Future
from typing import Any, Dict, List, Optional

import numpy as np

from ..deploy.drift import DriftMonitor
from ..deploy.policy import Policy
from ..deploy.runner import Runner
from ..exit_settings import fixed_exit_thresholds
from .controller import Controller
from .metrics import Metrics
from .scheduler import RefusedError, Served, StagedScheduler

__all__ = ['DriftWatch']


class DriftWatch:
    """The drift monitor of a service.

    Images that are chosen by chance go through the scheduler once more, to
    the last exit, after they were answered, and only while less than half of
    the places are taken. Each operating point is watched by itself against
    the certified risk.

    Args:
        runner (Runner): The network, with a certificate.
        scheduler (StagedScheduler): Runs it.
        metrics (Metrics): Is told of checks and alarms.
        share (float): Of the images, that are checked.
        fall_back (bool): Whether to turn to the next safer thresholds after
            an alarm of differing classes: with a curve to its next point,
            and never again below, else to those of the certificate. Defaults
            to False, it only warns.
        controller (Controller, optional): Moves along a curve.

    Raises:
        ValueError: If nothing is certified that can be watched, or the share
            is out of range.
    """

    def __init__(self,
                 runner: Runner,
                 scheduler: StagedScheduler,
                 metrics: Metrics,
                 share: float,
                 fall_back: bool = False,
                 controller: Optional[Controller] = None) -> None:
        self.scheduler, self.metrics = scheduler, metrics
        self.controller, self.fall_back = controller, fall_back
        self._certificate = runner.manifest.certificate
        self._last = runner.num_exits - 1
        self._lock = threading.Lock()
        points = [scheduler.policy] if controller is None else \
            [point.policy for point in controller.points]
        # All points together raise as few false alarms as one would.
        self._settings = dict(share=share, false_alarms=.01 / len(points))
        safer = fall_back and controller is None
        self.monitors: Dict[int, DriftMonitor] = {
            id(policy):
            DriftMonitor.of_certificate(self._certificate, safer,
                                        **self._settings)
            for policy in points
        }
        self.policies = {id(policy): policy for policy in points}
        self.checks = {
            key: Policy(self._last + 1,
                        fixed_exit_thresholds(self._last, self._last + 1),
                        **policy.settings)
            for key, policy in self.policies.items()
        }  # yapf: disable
        self.alarms: List[Dict[str, Any]] = []

    def is_check(self, policy: Policy) -> bool:
        """Whether an image was run again, and answers nobody."""
        return any(policy is check for check in self.checks.values())

    def choose(self) -> bool:
        """Whether to check an image, before anything is known of it."""
        monitor = next(iter(self.monitors.values()))
        return bool(monitor.choose(1)[0])

    def left(self, served: Served, image: Optional[np.ndarray]) -> None:
        """An image was answered.

        Args:
            served (Served): What it got.
            image (ndarray, optional): Its pixels if it was chosen.
        """
        key, deep = id(served.policy), served.exit_index == self._last
        if key not in self.monitors:
            return  # it came under thresholds that were given up
        self._observe(key, [False] if deep and image is not None else [],
                      [deep])
        if deep or image is None or \
                2 * self.scheduler.under_way > self.scheduler.max_waiting:
            return
        label = int(served.logits.argmax())

        def compare(future: 'Future[Served]') -> None:
            if future.cancelled() or future.exception() is not None:
                return
            differs = int(future.result().logits.argmax()) != label
            self._observe(key, [differs], [])

        try:
            again = self.scheduler.submit(image, self.checks[key])
        except RefusedError:
            return
        again.add_done_callback(compare)

    def _observe(self, key: int, differ: List[bool], deep: List[bool]) -> None:
        """Take in an image."""
        for one in differ:
            self.metrics.add('checked', 'differs' if one else 'same', 1)
        with self._lock:
            monitor = self.monitors.get(key)
            alarm = monitor.observe(differ, deep) if monitor else None
            if alarm is None:
                return
            self.metrics.add('drift_alarms', alarm['kind'], 1)
            point = None
            if self.controller is not None:
                point = self.controller.number(self.policies[key])
            self.alarms.append(dict(alarm, point=point))
            if point is not None and self.fall_back and \
                    alarm['kind'] == 'differ':
                assert self.controller is not None
                self.controller.give_up(point)
                floor = self.controller.floor
                # What is under way there still says nothing new.
                self.monitors = {
                    id(p.policy): self.monitors[id(p.policy)]
                    for p in self.controller.points[floor:]
                }
            elif alarm['thresholds'] is not None:
                self._replace(key, alarm['thresholds'])

    def _replace(self, key: int, thresholds: Any) -> None:
        """Put safer thresholds in force, and watch them from now on."""
        known = self.policies[key]
        policy = Policy(self._last + 1, thresholds, **known.settings)
        new = id(policy)
        self.policies[new], self.checks[new] = policy, self.checks[key]
        # Images of the thresholds before say nothing of these.
        self.monitors = {new: self.monitors[key]}
        self.scheduler.policy = policy

    def differing(self) -> float:
        """How frequent differing classes are at least, at the worst point."""
        with self._lock:
            return max(monitor.status()['differ']['interval'][0]
                       for monitor in self.monitors.values())

    def status(self) -> Dict[str, Any]:
        """What to show of it."""
        with self._lock:
            monitors = list(self.monitors.items())
            return dict(
                share=self._settings['share'],
                fall_back=self.fall_back,
                alarms=list(self.alarms),
                points=[
                    dict(
                        point=self.controller
                        and self.controller.number(self.policies[key]),
                        thresholds=self.policies[key].thresholds,
                        **{
                            kind: found
                            for kind, found in monitor.status().items()
                            if kind in monitor.bets
                        }) for key, monitor in monitors
                ])
