# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Thresholds in the unit that users think in: accuracy.

Each exit gets a map from confidence to the probability that its answer is
right, learned on held-out samples (performance-controlled early exit, arXiv
2412.19325). A sample leaves where that probability reaches the accuracy asked
for. The map never falls, so this is one threshold on the confidence of each
exit, and what runs needs no map.
"""
import math
from typing import Tuple

import numpy as np

from ..core.policy import NEVER
from .outcomes import ExitOutcomes

__all__ = ['MAPS', 'thresholds_for_accuracy']

MAPS = ('isotonic', 'histogram')
# Samples in a bin of the histogram, at least: one in ten is 3 % off.
FEWEST = 100
MOST_BINS = 30


def thresholds_for_accuracy(outcomes: ExitOutcomes,
                            accuracy: float,
                            kind: str = 'isotonic') -> Tuple[float, ...]:
    """Let a sample leave where its answer is right with this probability.

    Args:
        outcomes (ExitOutcomes): The samples, with answers right or wrong.
        accuracy (float): The probability, in (0, 1].
        kind (str): 'isotonic' (regression, by scikit-learn) or 'histogram'
            (bins of equally many samples). Defaults to 'isotonic'.

    Returns:
        tuple[float]: Thresholds of each exit but the last; above 1 where no
        confidence is worth that much.

    Raises:
        ImportError: If scikit-learn is missing.
        ValueError: If the accuracy or the kind is none.
    """
    if not 0 < accuracy <= 1:
        raise ValueError(f'accuracy must be above 0 and at most 1, such as '
                         f'0.94, got {accuracy}')
    if kind not in MAPS:
        raise ValueError(f'kind must be one of {", ".join(MAPS)}, got '
                         f'{kind!r}')
    find = _isotonic if kind == 'isotonic' else _histogram
    conf, right = (
        each.double().cpu()
        for each in (outcomes.confidence, outcomes.utility))
    return tuple(
        find(one.numpy(), hits.numpy(), accuracy)
        for one, hits in zip(conf[:-1], right[:-1]))


def _isotonic(conf: np.ndarray, right: np.ndarray, accuracy: float) -> float:
    """The least confidence whose fitted accuracy is high enough."""
    from sklearn.isotonic import IsotonicRegression
    fitted = IsotonicRegression(y_min=0, y_max=1).fit_transform(conf, right)
    enough = conf[fitted >= accuracy - 1e-12]
    return float(enough.min()) if len(enough) else NEVER


def _histogram(conf: np.ndarray, right: np.ndarray, accuracy: float) -> float:
    """The same by the bins from the surest down to the first that is not."""
    bins = max(1, min(MOST_BINS, math.floor(len(conf) / FEWEST)))
    order = np.argsort(-conf, kind='stable')
    threshold = NEVER
    for members in np.array_split(order, bins):
        if right[members].mean() < accuracy - 1e-12:
            break
        threshold = float(conf[members].min())
    return threshold
