# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""How well losses would fit a risk that is too large; how many would not."""
import math
from typing import Optional

import torch
from torch import Tensor

__all__ = ['betting_p_value', 'binomial_p_value', 'images_needed']


def binomial_p_value(num_losses: int, num_samples: int,
                     max_risk: float) -> float:
    """Chance of so few losses of 0 or 1, were the risk ``max_risk``.

    Args:
        num_losses (int): How many samples lost.
        num_samples (int): Of how many.
        max_risk (float): In (0, 1).

    Returns:
        float: P(Binomial(num_samples, max_risk) <= num_losses).
    """
    terms = [
        math.lgamma(num_samples + 1) - math.lgamma(k + 1) -
        math.lgamma(num_samples - k + 1) + k * math.log(max_risk) +
        (num_samples - k) * math.log1p(-max_risk)
        for k in range(num_losses + 1)
    ]
    return min(1., math.fsum(map(math.exp, terms)))


def betting_p_value(losses: Tensor,
                    max_risk: float,
                    low: float = -1.,
                    high: float = 1.,
                    level: float = .1) -> float:
    """The same of any losses, one by one, by betting against the risk.

    Whoever bets at each loss that it is below ``max_risk`` cannot win for
    long if the mean is not: the largest wealth is above 1/p with a chance of
    p at most (arXiv 2010.09686, with bets by the variance so far). That uses
    how rarely samples lose, where the bounds above know their range only.

    Args:
        losses (Tensor): Losses (N,) in [low, high], in an order that they do
            not decide.
        max_risk (float): In (low, high).
        low (float): Least loss. Defaults to -1.
        high (float): Largest loss. Defaults to 1.
        level (float): The p-value that the bets aim at. Defaults to 0.1.
    """
    losses = losses.double()
    count = torch.arange(1, len(losses) + 1, dtype=torch.float64)
    # Mean and variance of what came before, begun with one guess.
    prior = (high - low)**2 / 16
    mean = (max_risk + losses.cumsum(0)) / (count + 1)
    square = prior + (losses - mean).square().cumsum(0)
    variance = torch.cat([losses.new_tensor([prior]), square[:-1] / count[1:]])
    bets = (2 * math.log(1 / level) / (len(losses) * variance)).sqrt()
    bets = bets.clamp(max=.75 / (high - max_risk))
    wealth = (bets * (max_risk - losses)).log1p().cumsum(0)
    return min(1., math.exp(-float(wealth.max())))


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
