# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""How well losses would fit a risk that is too large."""
import math

import torch
from torch import Tensor

__all__ = ['betting_p_value', 'binomial_p_value']


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
