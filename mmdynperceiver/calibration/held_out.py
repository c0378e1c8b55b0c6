# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What thresholds bring on held-out samples, and how far to trust them."""
import math
from typing import NamedTuple, Sequence, Tuple

import torch
from torch import Tensor

from ..core.criteria import CHUNK, Temperature, confidences
from ..core.policy import check_thresholds, leave_at

__all__ = [
    'HeldOut', 'Outcome', 'area_under_curve', 'check_costs', 'evaluate',
    'expected_calibration_error', 'failure_auroc', 'fit_temperature',
    'random_exit_outcome'
]


class Outcome(NamedTuple):
    """What thresholds bring on labelled samples.

    Args:
        accuracy (float): Share of samples whose label is right, in [0, 1].
        shares (tuple[float]): Share of samples that leave at each exit.
        cost (float): Mean cost of one sample, in the unit of the costs of
            the exits, such as MACs or milliseconds.
    """

    accuracy: float
    shares: Tuple[float, ...]
    cost: float

    @property
    def macs(self) -> float:
        """The mean cost, where the costs are MACs."""
        return self.cost


class HeldOut(NamedTuple):
    """All that calibration needs to know of held-out samples.

    Args:
        confidences (Tensor): Confidence (num_exits, N) at each exit.
        right (Tensor): Whether each exit's class is the label
            (num_exits, N), boolean; in other tasks any measure of how good
            its answer is, larger for better, of which the mean then stands
            for the accuracy.
    """

    confidences: Tensor
    right: Tensor

    @classmethod
    def of(cls,
           all_logits: Sequence[Tensor],
           labels: Tensor,
           criterion: str = 'max_prob',
           temperature: Temperature = None) -> 'HeldOut':
        """Reduce logits, a few rows at a time.

        Args:
            all_logits (Sequence[Tensor]): Logits (N, K) of each exit, also
                as arrays.
            labels (Tensor): True classes (N,), also as an array.
            criterion (str): One of ``CRITERIA``. Defaults to ``max_prob``.
            temperature (float | Sequence[float], optional): What the logits
                are divided by, for each exit or for all. Defaults to None, 1.

        Raises:
            ValueError: If the shapes do not fit, there are no samples or
                all of one class, or the logits hold NaN.
        """
        labels = torch.as_tensor(labels)
        all_logits = [torch.as_tensor(logits) for logits in all_logits]
        _check_samples(all_logits, labels)
        right = torch.stack([x.argmax(-1) == labels for x in all_logits])
        return cls(confidences(all_logits, criterion, temperature), right)


def _check_samples(all_logits: Sequence[Tensor], labels: Tensor) -> None:
    """Refuse held-out samples that nothing can be learned from."""
    if len(all_logits) < 2:
        raise ValueError(f'calibration needs the logits of at least two '
                         f'exits, got {len(all_logits)}')
    shapes = [tuple(logits.shape) for logits in all_logits]
    if len(set(shapes)) > 1 or len(shapes[0]) != 2 or \
            tuple(labels.shape) != shapes[0][:1]:
        raise ValueError(
            f'held-out logits must be (N, K) at each exit and labels (N,), '
            f'got {shapes} and {tuple(labels.shape)}')
    num_samples, num_classes = shapes[0]
    if num_samples == 0:
        raise ValueError('calibration needs held-out samples, got 0 samples')
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise ValueError(f'labels must be 0 to {num_classes - 1}, as the '
                         f'logits are, got {low} to {high}')
    if low == high:
        raise ValueError(
            f'all {num_samples} held-out samples are of class {low}; '
            f'calibration needs samples as mixed as those to come')
    for index, logits in enumerate(all_logits):
        if not (logits < math.inf).all():
            raise ValueError(f'held-out logits must be numbers, got NaN or '
                             f'infinity at exit {index}; check the checkpoint')


def check_costs(costs: Sequence[float], num_exits: int) -> Tuple[float, ...]:
    """Refuse costs that do not grow with depth.

    Args:
        costs (Sequence[float]): Cumulative cost of each exit.
        num_exits (int): Number of exits.

    Returns:
        tuple[float]: The same numbers.

    Raises:
        ValueError: If there are too few or too many, or one is negative, not
            finite, or below the one before.
    """
    values = tuple(float(cost) for cost in costs)
    if len(values) != num_exits or not all(map(math.isfinite, values)) or \
            values[0] < 0 or any(a > b for a, b in zip(values, values[1:])):
        raise ValueError(f'costs must be {num_exits} finite numbers that do '
                         f'not fall with depth, got {list(values)}')
    return values


def evaluate(held_out: HeldOut, thresholds: Sequence[float],
             costs: Sequence[float]) -> Outcome:
    """Replay thresholds on labelled samples.

    Args:
        held_out (HeldOut): The samples.
        thresholds (Sequence[float]): One for each exit but the last.
        costs (Sequence[float]): Cumulative cost of each exit.

    Returns:
        Outcome: Accuracy, share of each exit and mean cost.

    Raises:
        ValueError: If an argument does not fit.
    """
    conf, right = held_out
    num_exits, num_samples = conf.shape
    costs = check_costs(costs, num_exits)
    exit_index = leave_at(conf, check_thresholds(thresholds, num_exits))
    counts = torch.bincount(exit_index, minlength=num_exits).tolist()
    num_right = float(right.gather(0, exit_index[None]).double().sum())
    return Outcome(num_right / num_samples,
                   tuple(count / num_samples for count in counts),
                   mean_cost(counts, costs))


def mean_cost(counts: Sequence[float], costs: Sequence[float]) -> float:
    """Mean cost of one sample, where ``counts`` leave at each exit."""
    return math.fsum(n * c for n, c in zip(counts, costs)) / sum(counts)


def random_exit_outcome(held_out: HeldOut, shares: Sequence[float],
                        costs: Sequence[float]) -> Outcome:
    """What leaving by chance would bring, with the same shares.

    A confidence is worth what it gains over this: as many samples leave at
    each exit, but which ones does not depend on the sample.

    Args:
        held_out (HeldOut): The samples.
        shares (Sequence[float]): Share of each exit, summing to 1.
        costs (Sequence[float]): Cumulative cost of each exit.

    Returns:
        Outcome: Expected accuracy and cost, and the shares.

    Raises:
        ValueError: If an argument does not fit.
    """
    num_exits = len(held_out.right)
    shares = check_shares(shares, num_exits)
    accuracies = held_out.right.double().mean(1).tolist()
    accuracy = math.fsum(s * a for s, a in zip(shares, accuracies))
    return Outcome(accuracy, shares,
                   mean_cost(shares, check_costs(costs, num_exits)))


def check_shares(shares: Sequence[float], num_exits: int) -> Tuple[float, ...]:
    """Refuse shares that are not one for each exit or do not sum to 1."""
    values = tuple(float(share) for share in shares)
    if len(values) != num_exits or not min(values) >= 0 or \
            abs(sum(values) - 1) > 1e-6:
        raise ValueError(f'shares must be {num_exits} numbers of at least 0 '
                         f'that sum to 1, got {values}')
    return values


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Temperature at which the probabilities fit the labels best.

    Temperature scaling (arXiv 1706.04599): the negative log-likelihood is
    convex in 1 / T, so Newton steps, with bisection where they lead too far,
    find its minimum, between 1/50 and 50.

    Args:
        logits (Tensor): Held-out logits (N, K) of one exit.
        labels (Tensor): True classes (N,).

    Returns:
        float: The temperature.

    Raises:
        ValueError: If the samples do not fit or the logits hold NaN.
    """
    labels = torch.as_tensor(labels)
    _check_samples([logits] * 2, labels)

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
    """First two derivatives of the negative log-likelihood by the scale.

    They are the mean logit less the label's, and the variance of the logit,
    under the probabilities.
    """
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

    Args:
        conf (Tensor): Confidence (N,) at one exit, in [0, 1].
        right (Tensor): Whether the exit's class is the label (N,).
        bins (int): Number M of bins. Defaults to 15.

    Returns:
        float: In [0, 1]; 0 is best.
    """
    conf, hits = conf.double(), right.double()
    index = ((conf * bins).ceil().long() - 1).clamp(0, bins - 1)
    gaps = torch.zeros(bins, dtype=torch.float64, device=conf.device)
    gaps.index_add_(0, index, conf - hits)
    return gaps.abs().sum().item() / len(conf)


def failure_auroc(conf: Tensor, right: Tensor) -> float:
    """How well the confidence tells right answers from wrong ones.

    The probability that a right sample has a larger confidence than a wrong
    one; ties count half.

    Args:
        conf (Tensor): Confidence (N,) at one exit.
        right (Tensor): Whether the exit's class is the label (N,).

    Returns:
        float: In [0, 1]; 0.5 is chance. NaN if all are right or all wrong.
    """
    values, index = conf.unique(return_inverse=True)
    right = right.bool()
    size = len(values)
    hits = torch.bincount(index[right], minlength=size).double()
    misses = torch.bincount(index[~right], minlength=size).double()
    pairs = hits.sum() * misses.sum()
    if pairs == 0:
        return math.nan
    below = misses.cumsum(0) - misses
    return ((hits * (below + misses / 2)).sum() / pairs).item()


def area_under_curve(costs: Sequence[float],
                     accuracies: Sequence[float]) -> float:
    """Mean accuracy over the range of costs, by the trapezoid rule.

    Args:
        costs (Sequence[float]): Mean cost of each point, in any order.
        accuracies (Sequence[float]): Accuracy of each point.

    Returns:
        float: The area divided by the range, in the unit of the accuracies.

    Raises:
        ValueError: If there are not at least two different costs.
    """
    points = sorted(zip(map(float, costs), map(float, accuracies)))
    if len(costs) != len(accuracies) or not points or \
            points[0][0] == points[-1][0]:
        raise ValueError(f'a curve needs at least two points of different '
                         f'cost, got costs {list(costs)} and '
                         f'{len(accuracies)} accuracies')
    area = math.fsum((x1 - x0) * (y0 + y1) / 2
                     for (x0, y0), (x1, y1) in zip(points, points[1:]))
    return area / (points[-1][0] - points[0][0])
