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
from typing import (Any, Callable, Dict, Iterable, List, Mapping, Optional,
                    Sequence, Tuple)

import numpy as np

from .policy import Policy

__all__ = ['DriftMonitor', 'add_monitor_options']

LOGGER = logging.getLogger(__name__)
# How many times as often as certified, the bettors say, the classes differ.
TIMES = (1.25, 1.5, 2., 3., 5., 10., 20.)
# Checked images after which new bettors start, and most that are kept.
RESTART, KEPT = 100, 50
WORDS = dict(
    differ='checked images have another class at the last exit',
    deep='images ran to the last exit')


class _Bets:
    """What bettors have who say that something is more frequent than
    ``most``; ``limit`` is the wealth that raises an alarm."""

    def __init__(self, most: float, limit: float) -> None:
        self.most, self.limit = most, limit
        self._gains = np.array(_gains(most))
        self.start()

    def start(self) -> None:
        """Begin anew; all later alarms together are half as likely."""
        self.limit *= 2
        self.seen = self.counted = 0
        # Logarithm of each bettor's wealth, its share of the money included.
        self._wealth = np.empty((0, self._gains.shape[1]))

    def bet(self, found: bool) -> float:
        """What all bettors have after one more image."""
        if self.seen % RESTART == 0:
            number = self.seen // RESTART + 1
            # 1/2 + 1/6 + 1/12 + ... = 1; each says every risk alike.
            money = 1 / (number * (number + 1) * self._gains.shape[1])
            new = np.full((1, self._gains.shape[1]), math.log(money))
            self._wealth = np.concatenate([self._wealth, new])
            if len(self._wealth) > KEPT:
                poorest = self._wealth.max(1).argmin()
                self._wealth = np.delete(self._wealth, poorest, 0)
        self.seen += 1
        self.counted += bool(found)
        self._wealth += self._gains[int(found)]
        return float(np.exp(np.minimum(self._wealth, 700)).sum())

    def interval(self, level: float = .05) -> Tuple[float, float]:
        """How frequent it is, since the start or the last alarm.

        An interval that holds at all times at once with 1 - ``level``
        (a confidence sequence by betting), of an average over the stream.
        """
        rest = self.seen - self.counted
        return (_bound(self.counted, self.seen,
                       level / 2), 1 - _bound(rest, self.seen, level / 2))


def add_monitor_options(add: Callable[..., Any], fall_back: str) -> None:
    """Add ``--monitor`` and ``--fall-back`` to a command line.

    Args:
        add (Callable): ``add_argument`` of a parser.
        fall_back (str): With what the second goes on.
    """
    add('--monitor',
        type=float,
        metavar='SHARE',
        help='of certified thresholds: run this share of the images, such as '
        '0.02, to the last exit as well, and warn when their classes differ '
        'more often than was certified')
    add('--fall-back',
        action='store_true',
        help=f'with --monitor: go on with {fall_back}')


class DriftMonitor:
    """Watch how often early classes are not those of the last exit, and how
    often images run to it.

    Args:
        max_risk (float): How often they may differ, in (0, 1).
        share (float): Of the images, that run to the end as well. Defaults
            to 0.02.
        false_alarms (float): Of streams without drift, that raise an alarm
            at most. Defaults to 0.01.
        safer (Sequence[Sequence[float]]): Thresholds to fall back to, one
            after each alarm. Defaults to none: it only warns.
        seed (int, optional): Of the choice of images. Defaults to None.
        deep_share (float, optional): How often images may run to the last
            exit, in (0, 1). Defaults to None, not watched.

    Attributes:
        alarms (list[dict]): So far, see :meth:`observe`.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(self,
                 max_risk: float,
                 share: float = .02,
                 false_alarms: float = .01,
                 safer: Sequence[Sequence[float]] = (),
                 seed: Optional[int] = None,
                 deep_share: Optional[float] = None) -> None:
        for name, value, most in (('max_risk', max_risk,
                                   1), ('share', share, math.nextafter(1, 2)),
                                  ('false_alarms', false_alarms,
                                   1), ('deep_share', deep_share, 1)):
            if value is not None and not 0 < value < most:
                raise ValueError(f'{name} must be between 0 and 1, such as '
                                 f'0.02, got {value}')
        self.max_risk, self.share, self.safer = max_risk, share, list(safer)
        self.alarms: List[Dict[str, Any]] = []
        self._rng = np.random.default_rng(seed)
        self._lock = threading.Lock()
        limit = (1 if deep_share is None else 2) / false_alarms
        self.bets = dict(differ=_Bets(max_risk, limit))
        if deep_share is not None:
            self.bets['deep'] = _Bets(deep_share, limit)

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
        deep = certificate.get('deep_share')
        return cls(
            certificate['max_risk'],
            safer=safer,
            # What all may do is nothing to watch.
            deep_share=deep if deep and deep < 1 else None,
            **settings)

    def choose(self, number: int) -> np.ndarray:
        """Which of so many images (B,) to check, boolean."""
        with self._lock:
            return self._rng.random(number) < self.share

    def observe(
        self, differ: Iterable[bool], deep: Iterable[bool] = ()
    ) -> Optional[Dict[str, Any]]:
        """Take in images.

        Args:
            differ (Sequence[bool]): Of each checked image, whether its class
                is another one at the last exit.
            deep (Sequence[bool]): Of each image, whether it ran there.

        After an alarm that changes the thresholds the rest of ``differ`` is
        left out: it says nothing of the new ones.

        Returns:
            dict | None: The last alarm: its ``kind``, 'differ' or 'deep'; how
            many were ``counted`` of those ``seen`` since the start or the
            last such alarm, and ``most`` that was expected; ``thresholds`` to
            fall back to, or None.
        """
        alarm = None
        with self._lock:
            for kind, found in (('deep', deep), ('differ', differ)):
                bets = self.bets.get(kind)
                if bets is None:
                    continue
                for one in found:
                    if bets.bet(one) < bets.limit:
                        continue
                    alarm = self._alarm(kind, bets)
                    if alarm['thresholds'] is not None:
                        break  # the rest left under those before
        return alarm

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
        alarm = self.observe(differs[chosen], out.exit_index == last)
        if alarm is None or alarm['thresholds'] is None:
            return policy
        return Policy(last + 1, alarm['thresholds'], **policy.settings)

    def _alarm(self, kind: str, bets: _Bets) -> Dict[str, Any]:
        """Say so, and begin anew."""
        # Safer thresholds help against wrong answers, not against depth.
        safer = None
        if kind == 'differ' and self.safer:
            safer = self.safer.pop(0)
        found = dict(
            kind=kind,
            seen=bets.seen,
            counted=bets.counted,
            most=bets.most,
            thresholds=safer)
        then = 'the thresholds stay' if safer is None else \
            f'the thresholds are now {list(safer)}'
        LOGGER.warning('drift: %d of %d %s, at most %.3g %% were expected; %s',
                       bets.counted, bets.seen, WORDS[kind], 100 * bets.most,
                       then)
        self.alarms.append(found)
        bets.start()
        return found

    def status(self) -> Dict[str, Any]:
        """What to show: counts with intervals, and the alarms so far."""
        with self._lock:
            counts = {
                kind:
                dict(
                    seen=bets.seen,
                    counted=bets.counted,
                    most=bets.most,
                    interval=list(bets.interval()))
                for kind, bets in self.bets.items()
            }
            return dict(share=self.share, alarms=list(self.alarms), **counts)

    def summary(self) -> List[str]:
        """The same in lines."""
        status = self.status()
        lines = [f'{len(status["alarms"])} alarms of drift']
        for kind in self.bets:
            found = status[kind]
            low, high = (100 * end for end in found['interval'])
            lines.append(
                f'{found["counted"]} of {found["seen"]} {WORDS[kind]} '
                f'({low:.1f} to {high:.1f} %), at most '
                f'{100 * found["most"]:.3g} % were expected')
        return lines


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
