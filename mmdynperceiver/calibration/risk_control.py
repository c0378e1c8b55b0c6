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
import math
from dataclasses import replace
from typing import (Any, Dict, Iterable, List, NamedTuple, Optional, Sequence,
                    Tuple)

import torch
from torch import Tensor

from ..core.policy import leave_at
from ..errors import InputError
from .outcomes import ExitOutcomes
from .p_values import betting_p_value, binomial_p_value
from .threshold_search import ThresholdSearch

__all__ = [
    'RISKS', 'Certified', 'NotCertifiedError', 'certify', 'early_exit_losses',
    'images_needed', 'solve_certified', 'split_held_out'
]

# Name of each risk: the least and the largest loss of a sample.
RISKS = {'disagreement': (0., 1.), 'accuracy-gap': (-1., 1.)}
# Budgets that a path of thresholds is searched for.
PATH_POINTS = 65


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
        answers (Tensor): Class (num_exits, N) that each exit says.
        max_risk (float): Largest risk, in (0, 1).
        certainty (float, optional): See :func:`certify`.
        risk (str): One of ``RISKS``. Defaults to 'disagreement'.
        labels (Tensor, optional): True classes (N,), for 'accuracy-gap'.

    Returns:
        tuple: Thresholds, one for each exit but the last, and the
        certificate.

    Raises:
        NotCertifiedError: If no thresholds are certified.
        ValueError: If an argument does not fit.
    """
    halves = split_held_out(outcomes.num_samples)
    if risk == 'disagreement':  # the search is for those who agree
        outcomes = replace(outcomes, utility=answers == answers[-1])

    def losses_on(half: Tensor, path: Sequence[Sequence[float]]) -> Tensor:
        return early_exit_losses(outcomes.confidence[:, half],
                                 answers[:, half], path, risk,
                                 None if labels is None else labels[half])

    known = outcomes.select(halves[0])
    points = _candidates(known)
    risks = losses_on(halves[0], points).mean(1).tolist()
    costs = [known.evaluate(point).cost for point in points]
    # Safest first; what is neither safer nor cheaper is left out, and that
    # nobody leaves early.
    path, cheapest = [], known.cost[-1]
    for _, cost, point in sorted(zip(risks, costs, points)):
        if cost < cheapest:
            path.append(point)
            cheapest = cost
    if not path:
        raise NotCertifiedError('no thresholds save anything on the held-out '
                                'images: solve for a budget instead')
    index, certificate = certify(
        losses_on(halves[1], path), max_risk, certainty, risk)
    return path[index], certificate


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


def early_exit_losses(confidences: Tensor,
                      answers: Tensor,
                      path: Sequence[Sequence[float]],
                      risk: str = 'disagreement',
                      labels: Optional[Tensor] = None) -> Tensor:
    """What leaving early loses on each sample, against the last exit.

    Args:
        confidences (Tensor): Confidence (num_exits, N) at each exit.
        answers (Tensor): Class (num_exits, N) that each exit says.
        path (Sequence[Sequence[float]]): Thresholds of each point.
        risk (str): 'disagreement' (1 where the class is another one), or
            'accuracy-gap' (1 where only the last exit is right, -1 where
            only the early one is). Defaults to 'disagreement'.
        labels (Tensor, optional): True classes (N,), for 'accuracy-gap'.

    Returns:
        Tensor: Losses (len(path), N).

    Raises:
        ValueError: If there is no such risk, or it lacks labels.
    """
    _check_risk(risk)
    if risk == 'accuracy-gap' and labels is None:
        raise ValueError('the risk accuracy-gap needs labels; disagreement '
                         'with the last exit needs none')
    losses = []
    for thresholds in path:
        exits = leave_at(confidences, thresholds)
        early = answers.gather(0, exits[None])[0]
        if labels is None or risk == 'disagreement':
            losses.append((early != answers[-1]).double())
        else:
            losses.append((answers[-1] == labels).double() -
                          (early == labels).double())
    return torch.stack(losses)


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


def _check_risk(risk: str) -> None:
    """Refuse what is not the name of a risk."""
    if risk not in RISKS:
        raise ValueError(f'risk must be one of {", ".join(RISKS)}, got '
                         f'{risk!r}')


def _check(losses: Tensor, max_risk: float, certainty: Optional[float],
           risk: str) -> None:
    """Refuse numbers that promise nothing."""
    for name, value in (('max_risk', max_risk), ('certainty', certainty)):
        if value is not None and not 0 < value < 1:
            raise ValueError(f'{name} must be between 0 and 1, such as 0.01 '
                             f'or 0.9, got {value}')
    _check_risk(risk)
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


def images_needed(observed: float,
                  max_risk: float,
                  certainty: Optional[float] = None) -> Optional[int]:
    """How many images would certify a risk of 0 or 1 losses seen so far.

    Args:
        observed (float): Share of images that lost, at the path's first
            point.
        max_risk (float): Largest risk.
        certainty (float, optional): How certain. Defaults to None, in
            expectation.

    Returns:
        int | None: None if no number would do.
    """
    if observed >= max_risk:
        return None
    if certainty is None:
        return math.ceil((1 - max_risk) / (max_risk - observed))

    def enough(count: int) -> bool:
        return binomial_p_value(
            math.ceil(observed * count - 1e-9), count,
            max_risk) <= 1 - certainty

    high = 1
    while not enough(high):
        high *= 2
        if high > 10**7:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _why_not(losses: Tensor, max_risk: float, certainty: Optional[float],
             risk: str) -> str:
    """The message where not even the safest thresholds keep the promise."""
    observed = float(losses.double().mean())
    needed = images_needed(max(0., observed), max_risk, certainty)
    promise = f'a {risk} of at most {100 * max_risk:g} %'
    if certainty is not None:
        promise += f' with {100 * certainty:g} % certainty'
    advice = 'allow a larger risk' if needed is None else \
        f'about {needed:,} images that certify (half of the held-out ones ' \
        f'do) would be needed, or a larger risk'
    return (f'no thresholds are certified for {promise}: the safest ones '
            f'came to {100 * observed:.2f} % on {len(losses):,} images; '
            f'{advice}')
