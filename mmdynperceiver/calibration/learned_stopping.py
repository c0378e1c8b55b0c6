# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""When to stop, learned by backward induction.

An answer is worth its utility less a price for what it costs. From the last
exit but one to the first, a logistic model of each learns for which samples
stopping is worth at least as much as going on, where going on means what the
models behind it then do. Samples count by how much is at stake. What a model
does with samples that it was fitted on would be too hopeful, so the models in
front learn from decisions of others, fitted on other samples (cross-fitting).

That is 'induction'. 'jei-dnn' are the gates of JEI-DNN (arXiv 2310.09163),
each of which learns by itself whether any later exit would be worth more.

The probability is the criterion 'logistic': thresholds on it are searched as
on any other, and what runs is a few numbers for each exit.
"""
import math
from typing import Any, Callable, List, Optional, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..core.criteria import CHUNK, stopping_features

__all__ = ['LEARNERS', 'JeiDnnGates', 'LearnedStopping', 'fit_stopping']

# How the weights are learned.
LEARNERS = ('induction', 'jei-dnn')

FOLDS = 3
# Prices of the last exit that are tried, from least to most, and how often
# the range is halved.
PRICES, HALVINGS = (1e-3, 30.), 8
# The first of the FEATURES, which are those of one exit alone.
GATE_FEATURES = 3
# The bias where all samples should stop, or none.
CERTAIN = 20.


class LearnedStopping:
    """Fit the models of any price to the same samples.

    Args:
        answers (Sequence[Tensor]): Logits (N, K) that each exit answers with.
        utility (Tensor): What an answer is worth (num_exits, N), such as
            whether it is right.
        cost (Sequence[float]): Mean cost of one sample up to each exit.

    Raises:
        ImportError: If scikit-learn is missing.
    """

    def __init__(self, answers: Sequence[Tensor], utility: Tensor,
                 cost: Sequence[float]) -> None:
        import sklearn.linear_model
        self._model = sklearn.linear_model.LogisticRegression
        parts = list(zip(*(logits.split(CHUNK) for logits in answers)))
        self._features = [
            torch.cat([stopping_features(part[:k + 1])
                       for part in parts]).numpy()
            for k in range(len(answers) - 1)
        ]
        self._utility = utility.double().numpy()
        self._share = np.asarray(cost, float) / cost[-1]
        number = self._utility.shape[1]
        self._fold = np.random.default_rng(0).permutation(number) % FOLDS

    def fit(self, price: float) -> List[List[float]]:
        """Bias and weights of each exit but the last.

        ``price`` is how much utility what the last exit costs is worth.
        """
        worth = self._utility - price * self._share[:, None]
        later, found = worth[-1], []
        for features, now in zip(reversed(self._features), worth[-2::-1]):
            better, stake = now >= later, np.abs(now - later)
            found.append(self._fit(features, better, stake))
            if len(found) < len(self._features):
                stops = np.empty(len(now), bool)
                for k in range(FOLDS):
                    own, rest = self._fold == k, self._fold != k
                    weights = self._fit(features[rest], better[rest],
                                        stake[rest])
                    stops[own] = weights[0] + features[own] @ weights[1:] >= 0
                later = np.where(stops, now, later)
        return found[::-1]

    def stops(self, stopping: Sequence[Sequence[float]]) -> np.ndarray:
        """Where each sample stops (N,), wherever that is likely best."""
        exits = np.full(self._utility.shape[1], len(stopping))
        for k in reversed(range(len(stopping))):
            score = stopping[k][0] + self._features[k] @ stopping[k][1:]
            exits[score >= 0] = k
        return exits

    def outcome(self, stopping: Sequence[Sequence[float]],
                cost: Sequence[float]) -> Any:
        """Mean utility and mean cost."""
        exits = self.stops(stopping)
        return (self._utility[exits, np.arange(len(exits))].mean(),
                np.asarray(cost)[exits].mean())

    def _fit(self, features: np.ndarray, better: np.ndarray,
             stake: np.ndarray) -> List[float]:
        """One model, in the units of the features."""
        if better.all() or not better.any():
            return [CERTAIN if better.all() else -CERTAIN] + \
                [0.] * features.shape[1]
        mean, scale = features.mean(0), features.std(0) + 1e-9
        model = self._model(max_iter=200).fit((features - mean) / scale,
                                              better, stake / stake.mean())
        weights = model.coef_[0] / scale
        return [float(model.intercept_[0] - weights @ mean), *weights.tolist()]


class JeiDnnGates(LearnedStopping):
    """The gates of JEI-DNN, for classifiers that are trained already.

    What an answer is worth is minus its cross-entropy, less a price for its
    cost. The gate of an exit tells from how sure the exit is, by its largest
    probability, margin and entropy alone, whether this is at least the best
    of all exits behind it. The paper trains the classifiers in turn with the
    gates, which logits that are cached leave out.

    Args:
        answers, utility, cost: As of :class:`LearnedStopping`.
        labels (Tensor): Classes (N,) that the cross-entropy is of.
    """

    def __init__(self, answers: Sequence[Tensor], utility: Tensor,
                 cost: Sequence[float], labels: Tensor) -> None:
        super().__init__(answers, utility, cost)
        self._losses = np.stack([
            torch.cat([
                cross_entropy(part.double(), wanted, reduction='none')
                for part, wanted in zip(
                    logits.split(CHUNK), labels.split(CHUNK))
            ]).numpy() for logits in answers
        ])

    def targets(self, price: float) -> np.ndarray:
        """Whether each sample should stop (num_exits - 1, N)."""
        worth = -self._losses - price * self._share[:, None]
        best = np.maximum.accumulate(worth[::-1])[::-1]
        return worth[:-1] >= best[1:]

    def fit(self, price: float) -> List[List[float]]:
        """Bias and weights of each exit but the last; those of what only
        several exits tell are 0."""
        found = []
        for features, stop in zip(self._features, self.targets(price)):
            weights = self._fit(features[:, :GATE_FEATURES], stop,
                                np.ones(len(stop)))
            others = features.shape[1] - GATE_FEATURES
            found.append(weights + [0.] * others)
        return found


def fit_stopping(answers: Sequence[Tensor],
                 utility: Tensor,
                 cost: Sequence[float],
                 budget: Optional[float] = None,
                 min_utility: Optional[float] = None,
                 labels: Optional[Tensor] = None) -> List[List[float]]:
    """Find the price at which a budget or a floor is about met, and fit.

    Args:
        answers, utility, cost: As of :class:`LearnedStopping`.
        budget (float, optional): Most that a sample may cost on average.
            Defaults to None: half of the way to the last exit, if there is
            no floor.
        min_utility (float, optional): Least mean utility. Defaults to None.
        labels (Tensor, optional): Of :class:`JeiDnnGates`. Defaults to None,
            backward induction.

    Returns:
        list: Bias and weights of each exit but the last.
    """
    learned = LearnedStopping(answers, utility, cost) if labels is None else \
        JeiDnnGates(answers, utility, cost, labels)
    if budget is None and min_utility is None:
        budget = (cost[0] + cost[-1]) / 2

    def too_dear(stopping: Any) -> bool:
        """Whether what it brings asks for a larger price."""
        reached, spent = learned.outcome(stopping, cost)
        if min_utility is not None:
            return reached >= min_utility
        assert budget is not None
        return spent > budget

    return _by_price(learned.fit, too_dear)


def _by_price(fit: Callable[[float], Any], too_dear: Callable[[Any],
                                                              bool]) -> Any:
    """Halve the range of prices, on a logarithmic scale."""
    low, high = map(math.log, PRICES)
    for _ in range(HALVINGS):
        price = (low + high) / 2
        found = fit(math.exp(price))
        if too_dear(found):
            low = price
        else:
            high = price
    return found
