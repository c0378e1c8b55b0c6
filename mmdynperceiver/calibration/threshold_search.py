# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Thresholds that are searched for directly."""
import math
from typing import List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from ..core.policy import NEVER
from .outcomes import ExitOutcomes
from .share_solver import (ROUNDING, check_budget, just_below, one_thread,
                           paper_shares, share_solution_for_budget,
                           solve_by_shares)

__all__ = ['ThresholdSearch']

# Combinations of thresholds that are tried at once: of all samples, and
# around the best ones so far.
CELLS = 1 << 20
CELLS_AROUND = 1 << 17
# Rounds around the best ones; each narrows the range to about a tenth.
ROUNDS = 8
# Budgets that are tried to find the least one for a utility, and then
# bisections.
BUDGETS = 8
HALVINGS = 6


class _Goal(NamedTuple):
    """The largest total cost, or the smallest total utility."""

    cost: Optional[float] = None
    utility: float = -math.inf

    def pick(self, cost: Tensor, utility: Tensor) -> Optional[int]:
        """The best combination, as an index into the flat tables."""
        cost, utility = cost.flatten(), utility.flatten()
        if self.cost is not None:
            utility = utility.where(cost <= self.cost, -math.inf)
            cost = cost.where(utility == utility.max(), math.inf)
            return int(cost.argmin())
        cost = cost.where(utility >= self.utility, math.inf)
        if cost.min() == math.inf:
            return None
        return int(utility.where(cost == cost.min(), -math.inf).argmax())


class ThresholdSearch:
    """Find the thresholds of the best mean utility or the least mean cost.

    All combinations of quantiles of the confidences are tried at once: the
    samples that stay at exits 0 to k, and what their answers gain by it, are
    cumulative sums of a histogram over the confidences at these exits. Then
    ever finer grids are laid around the best combination, and around the
    share-based solution, so the result is never worse than that on the
    held-out samples. What is prepared once serves any number of budgets.

    Args:
        outcomes (ExitOutcomes): The held-out samples.
    """

    @one_thread()
    def __init__(self, outcomes: ExitOutcomes) -> None:
        self._outcomes = outcomes
        self._costs, self._num_samples = outcomes.cost, outcomes.num_samples
        # A cut c lets the samples leave whose rank is at least c: all for 0,
        # none for the number of different confidences.
        self._values, self._ranks = zip(*(row.unique(return_inverse=True)
                                          for row in outcomes.confidence[:-1]))
        utility = outcomes.utility.double()
        self._first_utility = float(utility[0].sum())
        self._gains = utility[1:] - utility[:-1]
        levels = _levels(CELLS, outcomes.num_exits - 1)
        index = torch.linspace(0, self._num_samples - 1, levels).round().long()
        self._grids = [
            self._grid(k,
                       ranks.sort().values[index])
            for k, ranks in enumerate(self._ranks)
        ]
        self._tables = self._try_all(self._grids)

    @one_thread()
    def for_budget(self, budget: float) -> Tuple[float, ...]:
        """Thresholds of the best utility that keep a mean cost.

        Raises:
            ValueError: If the budget is below the cost of the first exit.
        """
        check_budget(budget, self._costs)
        return self._thresholds(self._within(budget))

    @one_thread()
    def for_utility(self, min_utility: float) -> Tuple[float, ...]:
        """Thresholds of the least cost that keep a mean utility.

        Raises:
            ValueError: If no thresholds are found that are as good.
        """
        # Less a little, so that rounding does not decide.
        least = min_utility * self._num_samples - 1e-6
        found, most = self._by_budgets(least)
        if most < least:
            measure = self._outcomes.measure
            raise ValueError(
                f'no thresholds reach {"an" if measure[0] == "a" else "a"} '
                f'{measure} of {min_utility:.6g} on the held-out samples; the '
                f'best found have {most / self._num_samples:.6g}')
        starts = [
            self._cuts(solve_by_shares(self._outcomes.confidence, shares))
            for shares in paper_shares(len(self._costs))
        ]
        starts = [cuts for cuts in starts if self._at(cuts)[1] >= least]
        starts.sort(key=lambda cuts: self._at(cuts)[0])
        goal = _Goal(utility=least - 1e-6)
        return self._thresholds(self._best(goal, [found, *starts[:1]]))

    def _by_budgets(self, least: float) -> Tuple[List[int], float]:
        """Cuts of about the least budget that brings enough, and how much."""
        low, high = self._costs[0], self._costs[-1]
        step = (high - low) / BUDGETS
        tried = []
        for number in range(BUDGETS + 1):
            cuts = self._within(min(low + number * step, high))
            tried.append((self._at(cuts)[1], cuts))
            if tried[-1][0] >= least:
                break
        most, found = max(tried)
        high = low + number * step
        low = max(low, high - step)
        for _ in range(HALVINGS if most >= least else 0):
            middle = (low + high) / 2
            cuts = self._within(middle)
            if self._at(cuts)[1] >= least:
                found, high = cuts, middle
            else:
                low = middle
        return found, most

    def _within(self, budget: float) -> List[int]:
        """Cuts of the best utility that keep a budget."""
        shares = share_solution_for_budget(self._outcomes, budget)
        goal = _Goal(cost=budget * self._num_samples * ROUNDING)
        return self._best(goal, [self._cuts(shares)])

    def _grid(self, index: int, cuts: Tensor) -> Tensor:
        """Cuts to try at one exit, with all leave and none leaves."""
        ends = cuts.new_tensor([0, len(self._values[index])])
        return torch.cat([cuts, ends]).unique()

    def _try_all(self, grids: Sequence[Tensor]) -> Tuple[Tensor, Tensor]:
        """Total cost and utility of all combinations of cuts.

        Each sample that stays at exit k adds what exit k + 1 costs and gains.
        """
        sizes = [len(grid) for grid in grids]
        costs = self._gains.new_full(sizes, self._num_samples * self._costs[0])
        utility = self._gains.new_full(sizes, self._first_utility)
        cell = torch.zeros_like(self._ranks[0])
        for k, grid in enumerate(grids):
            # A sample stays at the cuts above its rank; as the first cut is
            # 0 and the last above all ranks, this is 1 to len(grid) - 1.
            above = torch.searchsorted(grid, self._ranks[k], right=True)
            cell = cell * sizes[k] + above
            shape = sizes[:k + 1]
            stay = torch.bincount(cell, minlength=math.prod(shape))
            gain = torch.bincount(cell, self._gains[k], math.prod(shape))
            stay, gain = stay.reshape(shape).double(), gain.reshape(shape)
            for dim in range(k + 1):
                stay, gain = stay.cumsum(dim), gain.cumsum(dim)
            shape = shape + [1] * (len(grids) - k - 1)
            step = self._costs[k + 1] - self._costs[k]
            costs += step * stay.reshape(shape)
            utility += gain.reshape(shape)
        return costs, utility

    def _best(self, goal: _Goal,
              starts: Sequence[List[int]] = ()) -> List[int]:
        """The best cuts, from the coarse grid and other starts."""
        starts = list(starts)
        coarse = goal.pick(*self._tables)
        if coarse is not None:
            starts.append(_unravel(coarse, self._grids))
        found = [self._refine(goal, cuts) for cuts in starts]
        outcomes = torch.tensor([self._at(cuts) for cuts in found],
                                dtype=torch.float64)
        best = goal.pick(outcomes[:, 0], outcomes[:, 1])
        assert best is not None
        return found[best]

    def _refine(self, goal: _Goal, cuts: List[int]) -> List[int]:
        """Lay ever finer grids around cuts that meet the goal."""
        grids = self._grids
        levels = _levels(CELLS_AROUND, len(grids))
        for _ in range(ROUNDS):
            around, complete = [], True
            for k, (cut, grid) in enumerate(zip(cuts, grids)):
                place = int(torch.searchsorted(grid, cut))
                low = int(grid[max(place - 2, 0)])
                high = int(grid[min(place + 2, len(grid) - 1)])
                count = min(levels, high - low + 1)
                complete &= count == high - low + 1
                near = torch.linspace(low, high, count).round().long()
                near = torch.cat([near.to(grid), grid.new_tensor([cut])])
                around.append(self._grid(k, near))
            grids, before = around, cuts
            best = goal.pick(*self._try_all(grids))
            assert best is not None  # the grid holds the old cuts
            cuts = _unravel(best, grids)
            if complete and cuts == before:
                break
        return cuts

    def _at(self, cuts: Sequence[int]) -> Tuple[float, float]:
        """Total cost and utility of one combination."""
        under_way = torch.ones_like(self._ranks[0], dtype=torch.bool)
        cost = self._num_samples * self._costs[0]
        utility = self._first_utility
        for k, cut in enumerate(cuts):
            under_way &= self._ranks[k] < cut
            step = self._costs[k + 1] - self._costs[k]
            cost += step * int(under_way.sum())
            utility += float(self._gains[k][under_way].sum())
        return cost, utility

    def _cuts(self, thresholds: Sequence[float]) -> List[int]:
        """Cuts that let the same samples leave."""
        return [
            int(torch.searchsorted(values, values.new_tensor(threshold)))
            for values, threshold in zip(self._values, thresholds)
        ]

    def _thresholds(self, cuts: Sequence[int]) -> Tuple[float, ...]:
        """Thresholds that let the same samples leave."""
        thresholds = []
        for values, cut in zip(self._values, cuts):
            if cut == 0:
                thresholds.append(0.)
            elif cut == len(values):
                thresholds.append(NEVER)
            else:
                thresholds.append(just_below(values[cut], values))
        return tuple(thresholds)


def _levels(cells: int, num_cuts: int) -> int:
    """Quantiles for each exit, besides all leave and none leaves."""
    return max(int(cells**(1 / num_cuts) + 1e-9) - 2, 1)


def _unravel(index: int, grids: Sequence[Tensor]) -> List[int]:
    """Cuts from an index into the flat tables."""
    cuts = []
    for grid in reversed(grids):
        index, place = divmod(index, len(grid))
        cuts.append(int(grid[place]))
    return cuts[::-1]
