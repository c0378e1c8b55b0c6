# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Thresholds with a promise on samples to come.

A path of thresholds, safest first, is found on one part of the held-out
samples. The other part, which the path does not depend on, certifies how far
along it one may go: with a certainty (Learn then Test, arXiv 2110.01052, with
fixed-sequence testing), or in expectation (conformal risk control, arXiv
2208.02814). What early exits risk is measured against the last exit, as in
arXiv 2405.20915.
"""
import itertools
from dataclasses import replace
from typing import (Any, Dict, Iterable, List, Mapping, NamedTuple, Optional,
                    Sequence, Tuple)

import torch
from torch import Tensor

from ..core.policy import NEVER, leave_at
from ..errors import InputError
from .intervals import wilson_interval
from .outcomes import ExitOutcomes
from .p_values import betting_p_value, binomial_p_value, images_needed
from .risks import CLASS_RISKS, RISKS, check_risk, early_exit_losses
from .share_solver import just_below
from .threshold_search import ThresholdSearch

__all__ = [
    'CLASS_RISKS', 'RISKS', 'Certified', 'NotCertifiedError', 'certify',
    'describe_certificate', 'early_exit_losses', 'images_needed',
    'safest_first', 'solve_certified', 'split_held_out', 'still_safer'
]

# Budgets that a path of thresholds is searched for.
PATH_POINTS = 65
# Parts of those who leave at the first point of a path of whom ever fewer do.
SAFER_STEPS = 8
# Two-sided 99 % of the normal distribution.
Z99 = 2.576
# Safer points that a certificate names, to fall back to.
NUM_SAFER = 4


class NotCertifiedError(InputError):
    """No thresholds keep the promise for certain; the message says why."""


class Certified(NamedTuple):
    """How far along a path one may go.

    Args:
        index (int): Place of the point on the path.
        certificate (dict): ``risk``, ``max_risk``, ``certainty`` (None in
            expectation), ``method``, ``num_images`` that certified it,
            ``observed`` risk on these, and ``p_value`` or ``bound``.
    """

    index: int
    certificate: Dict[str, Any]


def solve_certified(
        outcomes: ExitOutcomes,
        answers: Tensor,
        max_risk: float,
        certainty: Optional[float] = None,
        risk: str = 'disagreement',
        labels: Optional[Tensor] = None
) -> Tuple[Sequence[float], Dict[str, Any]]:
    """The cheapest thresholds that keep a promise.

    Args:
        outcomes (ExitOutcomes): All held-out samples.
        answers (Tensor): Class (num_exits, N) that each exit says; for
            'loss-gap' what it is worth.
        max_risk (float): Largest risk, in (0, 1).
        certainty (float, optional): See :func:`certify`.
        risk (str): One of ``RISKS``. Defaults to 'disagreement'.
        labels (Tensor, optional): True classes (N,), for 'accuracy-gap'.

    Returns:
        tuple: Thresholds, one for each exit but the last, and the
        certificate, which holds them too, in ``safer`` other certified
        ones, the next safer first, and in ``deep_share`` how many images run
        to the last exit, at most.

    Raises:
        NotCertifiedError: If no thresholds are certified.
        ValueError: If an argument does not fit.
    """
    halves = split_held_out(outcomes.num_samples)
    if risk == 'disagreement':  # the search is for those who agree
        outcomes = replace(outcomes, utility=answers == answers[-1])

    known = outcomes.select(halves[0])
    path = safest_first(known, risk, answers[:, halves[0]],
                        None if labels is None else labels[halves[0]])
    if certainty is not None:
        path = still_safer(known, path[0]) + path
    index, certificate = certify(
        early_exit_losses(outcomes.confidence[:, halves[1]],
                          answers[:, halves[1]], path, risk,
                          None if labels is None else labels[halves[1]]),
        max_risk, certainty, risk)
    deep = leave_at(outcomes.confidence[:, halves[1]], path[index])
    deep = deep == outcomes.num_exits - 1
    certificate.update(
        thresholds=list(path[index]),
        safer=_safer(path[:index]),
        deep_share=wilson_interval(int(deep.sum()), len(deep), Z99)[1])
    return path[index], certificate


def safest_first(known: ExitOutcomes,
                 risk: str,
                 answers: Tensor,
                 labels: Optional[Tensor] = None) -> List[Tuple[float, ...]]:
    """A path of thresholds, from the safest to the cheapest, on samples that
    certify nothing; the arguments are as of :func:`solve_certified`.

    Raises:
        NotCertifiedError: If no thresholds save anything.
    """
    points = _candidates(known)
    risks = early_exit_losses(known.confidence, answers, points, risk,
                              labels).mean(1).tolist()
    costs = [known.evaluate(point).cost for point in points]
    # What is neither safer nor cheaper is left out, and that nobody leaves
    # early.
    path, cheapest = [], known.cost[-1]
    for _, cost, point in sorted(zip(risks, costs, points)):
        if cost < cheapest:
            path.append(point)
            cheapest = cost
    if not path:
        raise NotCertifiedError('no thresholds save anything on the held-out '
                                'images: solve for a budget instead')
    return path


def still_safer(known: ExitOutcomes,
                point: Sequence[float]) -> List[Tuple[float, ...]]:
    """Points to begin with, dearer than the safest that a search finds.

    Of all points that lose nothing on the samples known, a search takes the
    cheapest, which may lose too much on others. So at each exit ever fewer of
    those who leave there do, the surest ones. What certifies with a certainty
    may begin anywhere; in expectation a longer path is only worse, because
    losses are raised to the largest so far.

    Returns:
        list: Thresholds, from those at which the fewest leave.
    """
    found, cheapest = [], known.cost[-1]
    least = known.evaluate(point).cost
    for step in range(1, SAFER_STEPS):
        thresholds = []
        for row, threshold in zip(known.confidence, point):
            sure = row[row >= threshold].sort(descending=True).values
            keep = len(sure) * step // SAFER_STEPS
            thresholds.append(
                just_below(sure[keep - 1], row) if keep else NEVER)
        cost = known.evaluate(thresholds).cost
        if least < cost < cheapest:
            found.append(tuple(thresholds))
            cheapest = cost
    return found


def _safer(path: Sequence[Sequence[float]]) -> List[List[float]]:
    """Some points of a path that begins with the safest, from its end."""
    count = min(len(path), NUM_SAFER)
    steps = [len(path) * k // count for k in range(count)]
    return [list(path[len(path) - 1 - step]) for step in steps]


def _candidates(known: ExitOutcomes) -> List[Tuple[float, ...]]:
    """The best thresholds within budgets from the last exit to the first."""
    search = ThresholdSearch(known)
    low, high = known.cost[0], known.cost[-1]
    return sorted({
        tuple(search.for_budget(high - (high - low) * k / (PATH_POINTS - 1)))
        for k in range(PATH_POINTS)
    })


def split_held_out(num_samples: int, seed: int = 0) -> Tuple[Tensor, Tensor]:
    """Split held-out samples into two halves, always the same way.

    Args:
        num_samples (int): Number of samples.
        seed (int): Of the shuffle. Defaults to 0.

    Returns:
        tuple[Tensor]: Indices of those to solve on, and of those that
        certify.
    """
    order = torch.randperm(
        num_samples, generator=torch.Generator().manual_seed(seed))
    return order[:num_samples // 2], order[num_samples // 2:]


def certify(losses: Tensor,
            max_risk: float,
            certainty: Optional[float] = None,
            risk: str = 'disagreement') -> Certified:
    """Go along a path as far as the promise holds.

    Args:
        losses (Tensor): Losses (P, N) of the path's points, safest first, on
            samples that the path does not depend on.
        max_risk (float): Largest mean loss on samples to come, in (0, 1).
        certainty (float, optional): How certain that is, in (0, 1). Defaults
            to None: the promise holds on average over held-out samples.
        risk (str): One of ``RISKS``. Defaults to 'disagreement'.

    Returns:
        Certified: The last point before the first that fails.

    Raises:
        NotCertifiedError: If the first point fails already.
        ValueError: If a number is out of range, or the losses are.
    """
    _check(losses, max_risk, certainty, risk)
    if certainty is None:
        method, name, limit = 'conformal risk control', 'bound', max_risk
        values: Iterable[float] = _expected_bounds(losses, risk)
    else:
        method, name, limit = 'learn then test', 'p_value', 1 - certainty
        values = (_p_value(row, max_risk, limit, risk) for row in losses)
    # Nothing is computed behind the first failure.
    passed = list(itertools.takewhile(lambda value: value <= limit, values))
    if not passed:
        raise NotCertifiedError(_why_not(losses[0], max_risk, certainty, risk))
    index = len(passed) - 1
    return Certified(
        index, {
            'risk': risk,
            'max_risk': max_risk,
            'certainty': certainty,
            'method': method,
            'num_images': losses.shape[1],
            'observed': float(losses[index].double().mean()),
            name: passed[index]
        })


def describe_certificate(found: Mapping[str, Any]) -> str:
    """What is promised of images to come, in a line."""
    sure = 'on average' if found['certainty'] is None else \
        f'with {100 * found["certainty"]:g} % certainty'
    return (f'certified {sure}: {found["risk"]} with the last exit at most '
            f'{100 * found["max_risk"]:g} % on images like the held-out ones '
            f'({100 * found["observed"]:.2f} % of {found["num_images"]:,} '
            f'that no threshold was chosen on)')


def _check(losses: Tensor, max_risk: float, certainty: Optional[float],
           risk: str) -> None:
    """Refuse numbers that promise nothing."""
    for name, value in (('max_risk', max_risk), ('certainty', certainty)):
        if value is not None and not 0 < value < 1:
            raise ValueError(f'{name} must be between 0 and 1, such as 0.01 '
                             f'or 0.9, got {value}')
    check_risk(risk)
    low, high = RISKS[risk]
    if losses.ndim != 2 or not losses.numel() or \
            not (losses.min() >= low and losses.max() <= high):
        raise ValueError(
            f'the losses must be (points, samples) in [{low:g}, {high:g}], '
            f'got {tuple(losses.shape)}')


def _p_value(losses: Tensor, max_risk: float, level: float,
             risk: str) -> float:
    """How well such losses would fit a risk above the largest one."""
    if risk == 'disagreement':
        return binomial_p_value(int(losses.sum()), len(losses), max_risk)
    return betting_p_value(losses, max_risk, *RISKS[risk], level)


def _expected_bounds(losses: Tensor, risk: str) -> Sequence[float]:
    """What conformal risk control compares with the largest risk.

    It takes losses that never fall along the path, so each sample's are
    raised to the largest so far.
    """
    raised = losses.double().cummax(0).values
    count = losses.shape[1]
    return ((raised.sum(1) + RISKS[risk][1]) / (count + 1)).tolist()


def _why_not(losses: Tensor, max_risk: float, certainty: Optional[float],
             risk: str) -> str:
    """The message where not even the safest thresholds keep the promise."""
    observed = float(losses.double().mean())
    needed = images_needed(max(0., observed), max_risk, certainty)
    article = 'an' if risk[0] in 'aeiou' else 'a'
    promise = f'{article} {risk} of at most {100 * max_risk:g} %'
    if certainty is not None:
        promise += f' with {100 * certainty:g} % certainty'
    advice = 'allow a larger risk' if needed is None else \
        f'about {needed:,} images that certify (half of the held-out ones ' \
        f'do) would be needed, or a larger risk'
    return (f'no thresholds are certified for {promise}: the safest ones '
            f'came to {100 * observed:.2f} % on {len(losses):,} images; '
            f'{advice}')
