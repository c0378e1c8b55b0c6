# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""How well confidences tell right from wrong, and how to scale them."""
import math
from typing import Sequence, Tuple

import torch
from torch import Tensor

from ..core.criteria import CHUNK
from .outcomes import check_samples

__all__ = [
    'area_under_curve', 'expected_calibration_error', 'failure_auroc',
    'fit_temperature'
]


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Temperature at which the probabilities fit the labels best.

    Temperature scaling (arXiv 1706.04599): the negative log-likelihood is
    convex in 1 / T, so Newton steps, with bisection where they lead too far,
    find its minimum, between 1/50 and 50.

    It takes held-out logits (N, K) of one exit and labels (N,).

    Raises:
        ValueError: If the samples do not fit or the logits hold NaN.
    """
    labels = torch.as_tensor(labels)
    check_samples([logits] * 2, labels)
    low, high, scale = 1 / 50, 50., 1.
    for _ in range(50):
        slope, curvature = _likelihood_slope(logits, labels, scale)
        if slope > 0:
            high = scale
        else:
            low = scale
        before = scale
        scale -= slope / max(curvature, 1e-12)
        if not low < scale < high:
            scale = math.sqrt(low * high)
        if abs(scale - before) <= 1e-5 * before:
            break
    return 1 / scale


def _likelihood_slope(logits: Tensor, labels: Tensor,
                      scale: float) -> Tuple[float, float]:
    """First two derivatives of the negative log-likelihood by the scale."""
    slope = curvature = 0.
    for rows, wanted in zip(logits.split(CHUNK), labels.split(CHUNK)):
        rows = rows.float()
        # Relative to the largest; a probability of 0 must not meet infinity.
        rows = (rows - rows.amax(1, keepdim=True)).clamp_(min=-1e4)
        probabilities = (rows * scale).softmax(1)
        mean = (probabilities * rows).sum(1)
        square = (probabilities * rows.square()).sum(1)
        picked = rows.gather(1, wanted[:, None]).squeeze(1)
        slope += (mean - picked).sum(dtype=torch.float64).item()
        curvature += (square - mean**2).sum(dtype=torch.float64).item()
    return slope, curvature


def expected_calibration_error(conf: Tensor,
                               right: Tensor,
                               bins: int = 15) -> float:
    """Mean distance of confidence and accuracy over equally wide bins.

    As in arXiv 1706.04599: bin m holds the confidences in ((m-1)/M, m/M].

    It takes the confidence (N,) of one exit, in [0, 1], and whether it is
    right (N,); 0 is best.
    """
    conf = conf.double()
    index = ((conf * bins).ceil().long() - 1).clamp(0, bins - 1)
    gaps = index.bincount(conf - right.double(), bins)
    return gaps.abs().sum().item() / len(conf)


def failure_auroc(conf: Tensor, right: Tensor) -> float:
    """How well the confidence tells right answers from wrong ones.

    The probability that a right sample has a larger confidence than a wrong
    one; ties count half.

    It takes the confidence (N,) of one exit, and whether it is right (N,).
    0.5 is chance; NaN if all are right or all wrong.
    """
    values, index = conf.unique(return_inverse=True)
    hits, misses = (
        index[chosen].bincount(minlength=len(values)).double()
        for chosen in (right.bool(), ~right.bool()))
    below = misses.cumsum(0) - misses / 2
    # Where there are no pairs this is 0 / 0.
    return ((hits * below).sum() / (hits.sum() * misses.sum())).item()


def area_under_curve(costs: Sequence[float],
                     utilities: Sequence[float]) -> float:
    """Mean utility over the range of costs, by the trapezoid rule.

    Points come in any order.

    Raises:
        ValueError: If there are not at least two different costs.
    """
    points = sorted(zip(map(float, costs), map(float, utilities)))
    if len(costs) != len(utilities) or not points or \
            points[0][0] == points[-1][0]:
        raise ValueError(f'a curve needs at least two points of different '
                         f'cost, got costs {list(costs)} and '
                         f'{len(utilities)} utilities')
    area = math.fsum((x1 - x0) * (y0 + y1) / 2
                     for (x0, y0), (x1, y1) in zip(points, points[1:]))
    return area / (points[-1][0] - points[0][0])
