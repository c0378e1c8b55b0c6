# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Notice when a certificate no longer holds, because the world has changed.

A small random share of images also runs to the last exit, and whoever bets
that the classes differ more often than was certified gets rich only if they
do: while they do not, the wealth ever reaches 1 / false_alarms in one of so
many streams at most, however long one looks (betting, arXiv 2010.09686, and
Ville's inequality). New bettors start now and then, so that a long time
without drift does not hide it.
"""
import logging
import math
import threading
from typing import (Any, Callable, Dict, List, Mapping, Optional, Sequence,
                    Tuple)

import numpy as np

from .policy import Policy

__all__ = ['DriftMonitor']

LOGGER = logging.getLogger(__name__)
# How many times as often as certified, the bettors say, the classes differ.
TIMES = (1.25, 1.5, 2., 3., 5., 10., 20.)
# Checked images after which new bettors start, and most that are kept.
RESTART, KEPT = 100, 50


class DriftMonitor:
    """Watch how often early classes are not those of the last exit.

    Args:
        max_risk (float): How often they may differ, in (0, 1).
        share (float): Of the images, that run to the end as well. Defaults
            to 0.02.
        false_alarms (float): Of streams without drift, that raise an alarm
            at most. Defaults to 0.01.
        safer (Sequence[Sequence[float]]): Thresholds to fall back to, one
            after each alarm. Defaults to none: it only warns.
        seed (int, optional): Of the choice of images. Defaults to None.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(self,
                 max_risk: float,
                 share: float = .02,
                 false_alarms: float = .01,
                 safer: Sequence[Sequence[float]] = (),
                 seed: Optional[int] = None) -> None:
        for name, value, most in (('max_risk', max_risk,
                                   1), ('share', share, math.nextafter(1, 2)),
                                  ('false_alarms', false_alarms, 1)):
            if not 0 < value < most:
                raise ValueError(f'{name} must be between 0 and 1, such as '
                                 f'0.02, got {value}')
        self.max_risk, self.share = max_risk, share
        self.false_alarms, self.safer = false_alarms, list(safer)
        self.alarms: List[Dict[str, Any]] = []
        self._rng = np.random.default_rng(seed)
        self._lock = threading.Lock()
        self._gains = np.array(_gains(max_risk))
        self._start()

    @classmethod
    def of_certificate(cls,
                       certificate: Optional[Mapping[str, Any]],
                       fall_back: bool = False,
                       **settings: Any) -> 'DriftMonitor':
        """The monitor of what an exported folder promises.

        Args:
            certificate (Mapping, optional): ``Manifest.certificate``.
            fall_back (bool): Whether to go on with the next safer thresholds
                after an alarm. Defaults to False.
            **settings: As of the class.

        Raises:
            ValueError: If it promises nothing that can be watched without
                labels.
        """
        if not certificate or certificate['risk'] != 'disagreement':
            raise ValueError(
                'there is no certificate of how often classes differ from '
                'those of the last exit, so nothing to watch: calibrate with '
                '--max-risk 1%, and export with its --thresholds-file')
        safer = certificate.get('safer') or () if fall_back else ()
        return cls(certificate['max_risk'], safer=safer, **settings)

    def _start(self) -> None:
        """Begin anew; all later alarms together are half as likely."""
        self.limit = 2**(1 + len(self.alarms)) / self.false_alarms
        self.checked = self.differed = 0
        # Logarithm of each bettor's wealth, its share of the money included.
        self._wealth = np.empty((0, self._gains.shape[1]))

    def choose(self, number: int) -> np.ndarray:
        """Which of so many images (B,) to check, boolean."""
        with self._lock:
            return self._rng.random(number) < self.share

    def observe(self, differs: Sequence[bool]) -> Optional[Dict[str, Any]]:
        """Take in whether the class of each checked image is another one.

        Returns:
            dict | None: An alarm: ``checked`` and ``differed`` images since
            the start or the last alarm, what was ``certified``, and
            ``thresholds`` to fall back to, or None.
        """
        with self._lock:
            for lost in differs:
                if self._bet(bool(lost)) >= self.limit:
                    return self._alarm()
        return None

    def watch(self, batch: np.ndarray, out: Any, policy: Policy,
              all_exits: Callable[[np.ndarray], Any]) -> Policy:
        """Run some images to the last exit as well, and compare.

        Args:
            batch (ndarray): Images (B, ...).
            out (Outcome): What they got.
            policy (Policy): What let them leave.
            all_exits (Callable): Runs images to the end; returns the logits
                of each exit.

        Returns:
            Policy: The one to go on with.
        """
        last = policy.num_exits - 1
        chosen = np.flatnonzero(self.choose(len(batch)))
        early = chosen[out.exit_index[chosen] < last]
        differs = np.zeros(len(batch), bool)
        if len(early):
            answer = policy.last_answer(all_exits(batch[early]))
            differs[early] = answer.argmax(-1) != out.logits[early].argmax(-1)
        alarm = self.observe(differs[chosen])
        if alarm is None or alarm['thresholds'] is None:
            return policy
        return Policy(last + 1, alarm['thresholds'], **policy.settings)

    def _bet(self, lost: bool) -> float:
        """What all bettors have after one more image."""
        if self.checked % RESTART == 0:
            number = self.checked // RESTART + 1
            # 1/2 + 1/6 + 1/12 + ... = 1; each says every risk alike.
            money = 1 / (number * (number + 1) * self._gains.shape[1])
            new = np.full((1, self._gains.shape[1]), math.log(money))
            self._wealth = np.concatenate([self._wealth, new])
            if len(self._wealth) > KEPT:
                poorest = self._wealth.max(1).argmin()
                self._wealth = np.delete(self._wealth, poorest, 0)
        self.checked += 1
        self.differed += lost
        self._wealth += self._gains[int(lost)]
        return float(np.exp(np.minimum(self._wealth, 700)).sum())

    def _alarm(self) -> Dict[str, Any]:
        """Say so, and begin anew."""
        safer = self.safer.pop(0) if self.safer else None
        found = dict(
            checked=self.checked,
            differed=self.differed,
            certified=self.max_risk,
            thresholds=safer)
        then = 'nothing is done about it' if safer is None else \
            f'the thresholds are now {list(safer)}'
        LOGGER.warning(
            'drift: %d of %d checked images have another class at the last '
            'exit, certified were at most %g %%; %s', self.differed,
            self.checked, 100 * self.max_risk, then)
        self.alarms.append(found)
        self._start()
        return found

    def interval(self, level: float = .05) -> Tuple[float, float]:
        """How often classes differ, since the start or the last alarm.

        An interval that holds at all times at once with 1 - ``level``
        (a confidence sequence by betting), of an average over the stream.
        """
        low = _bound(self.differed, self.checked, level / 2)
        return low, 1 - _bound(self.checked - self.differed, self.checked,
                               level / 2)

    def status(self) -> Dict[str, Any]:
        """What to show: counts, the interval, and the alarms so far."""
        with self._lock:
            return dict(
                certified=self.max_risk,
                share=self.share,
                checked=self.checked,
                differed=self.differed,
                interval=list(self.interval()),
                alarms=list(self.alarms))

    def summary(self) -> str:
        """The same in a line."""
        found = self.status()
        low, high = (100 * end for end in found['interval'])
        return (f'{len(found["alarms"])} alarms; {found["differed"]} of '
                f'{found["checked"]} checked images have another class at '
                f'the last exit ({low:.1f} to {high:.1f} %, certified were '
                f'at most {100 * self.max_risk:g} %)')


def _gains(risk: float) -> List[List[float]]:
    """What bettors win, as logarithms, if classes do not differ, and if so.

    Each says a probability above the risk; that is a fair bet at the risk,
    and a losing one below it.
    """
    said = [risk * t for t in TIMES if risk * t < (1 + risk) / 2] + \
        [(1 + risk) / 2]
    return [[math.log((1 - p) / (1 - risk)) for p in said],
            [math.log(p / risk) for p in said]]


def _bound(count: int, number: int, level: float) -> float:
    """The largest risk that so many of so many images speak against."""
    low, high = 0., count / max(number, 1)
    for _ in range(40):
        middle = (low + high) / 2
        if middle <= 0:
            break
        lose, win = np.array(_gains(middle))
        logs = count * win + (number - count) * lose
        wealth = np.exp(np.minimum(logs, 700)).mean()
        low, high = (middle, high) if wealth >= 1 / level else (low, middle)
    return low
