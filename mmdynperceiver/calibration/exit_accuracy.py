# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Thresholds in the unit that users think in: accuracy.

Each exit gets a map from confidence to the probability that its answer is
right, learned on held-out samples (performance-controlled early exit, arXiv
2412.19325). A sample leaves where that probability reaches the accuracy asked
for. The map never falls, so this is one threshold on the confidence of each
exit, and what runs needs no map.
"""
from typing import Tuple

from ..core.policy import NEVER
from .outcomes import ExitOutcomes

__all__ = ['thresholds_for_accuracy']


def thresholds_for_accuracy(outcomes: ExitOutcomes,
                            accuracy: float) -> Tuple[float, ...]:
    """Let a sample leave where its answer is right with this probability.

    Args:
        outcomes (ExitOutcomes): The samples, with answers right or wrong.
        accuracy (float): The probability, in (0, 1].

    Returns:
        tuple[float]: Thresholds of each exit but the last; above 1 where no
        confidence is worth that much.

    Raises:
        ImportError: If scikit-learn is missing.
        ValueError: If the accuracy is none.
    """
    from sklearn.isotonic import IsotonicRegression
    if not 0 < accuracy <= 1:
        raise ValueError(f'accuracy must be above 0 and at most 1, such as '
                         f'0.94, got {accuracy}')
    thresholds = []
    for conf, right in zip(outcomes.confidence[:-1].double().cpu().numpy(),
                           outcomes.utility[:-1].double().cpu().numpy()):
        fitted = IsotonicRegression(
            y_min=0, y_max=1).fit_transform(conf, right)
        enough = conf[fitted >= accuracy - 1e-12]
        thresholds.append(float(enough.min()) if len(enough) else NEVER)
    return tuple(thresholds)
