# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""How far measured shares and means may be off: confidence intervals."""
import math
from typing import Any, Tuple

import torch

__all__ = ['mean_interval', 'paired_interval', 'wilson_interval']

# Two-sided 95 % of the normal distribution: half the width of an interval in
# standard errors.
Z95 = 1.959964


def wilson_interval(successes: float,
                    total: int,
                    z: float = Z95) -> Tuple[float, float]:
    """Wilson's score interval of a share, such as an accuracy, in [0, 1].

    It holds for few samples, and for shares near 0 or 1.

    ``successes`` of ``total`` samples, an expected number perhaps a fraction.

    Raises:
        ValueError: If there are no samples, or more successes than samples.
    """
    if total < 1 or not 0 <= successes <= total:
        raise ValueError(f'an interval needs 0 to {total} successes of at '
                         f'least one sample, got {successes} of {total}')
    share = successes / total
    square = z * z / total
    centre = share + square / 2
    half = z * math.sqrt(share * (1 - share) / total + square / total / 4)
    low, high = (centre - half) / (1 + square), (centre + half) / (1 + square)
    # Rounding must not push the end past the share itself.
    return max(0., min(low, share)), min(1., max(high, share))


def paired_interval(gained: int,
                    lost: int,
                    total: int,
                    z: float = Z95) -> Tuple[float, float]:
    """Interval of the difference of two accuracies on the same samples.

    Paired: what makes a sample hard for both cancels out. Agresti and Min
    (Statistics in Medicine 24, 2005): half a sample is added to each of the
    four outcomes, so that few samples, or none that differ, still leave
    doubt.

    Args:
        gained (int): Samples that only the first gets right.
        lost (int): Samples that only the second gets right.
        total (int): Number of samples.
        z (float): Half its width in standard errors. Defaults to 95 %.

    Raises:
        ValueError: If there are no samples, or fewer than differ.
    """
    if total < 1 or min(gained, lost) < 0 or gained + lost > total:
        raise ValueError(f'an interval needs samples of which some may '
                         f'differ, got {gained} gained and {lost} lost of '
                         f'{total}')
    size = total + 2
    difference = (gained - lost) / size
    variance = (gained + lost + 1) / size - difference**2
    half = z * math.sqrt(variance / size)
    return max(-1., difference - half), min(1., difference + half)


def mean_interval(values: Any, z: float = Z95) -> Tuple[float, float]:
    """Interval of a mean of numbers (N,), such as the MACs of each sample.

    It is not finite for a single one.

    Raises:
        ValueError: If there are no samples.
    """
    values = torch.as_tensor(values, dtype=torch.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f'an interval needs one number for each sample, got '
                         f'the shape {tuple(values.shape)}')
    if len(values) == 1:
        return -math.inf, math.inf
    mean, half = values.mean(), z * values.std() / math.sqrt(len(values))
    return (mean - half).item(), (mean + half).item()
