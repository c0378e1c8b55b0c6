# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Thresholds that are searched for directly."""
import math
from typing import List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from ..core.policy import NEVER
from .held_out import HeldOut, check_costs
from .share_solver import (ROUNDING, check_budget, just_below, one_thread,
                           paper_shares, share_solution_for_budget,
                           solve_by_shares)

__all__ = ['ThresholdSearch', 'search_thresholds']

# Combinations of thresholds that are tried at once: of all samples, and
# around the best ones so far.
CELLS = 1 << 20
CELLS_AROUND = 1 << 17
# Rounds around the best ones; each narrows the range to about a tenth.
ROUNDS = 8
# Budgets that are tried to find the least one for an accuracy, and then
# bisections.
BUDGETS = 8
HALVINGS = 6


class _Goal(NamedTuple):
    """The largest total cost, or the smallest number of right samples."""

    cost: Optional[float] = None
    right: Optional[int] = None

    def pick(self, cost: Tensor, right: Tensor) -> Optional[int]:
        """The best combination, as an index into the flat tables."""
        cost, right = cost.flatten(), right.flatten()
        if self.cost is not None:
            right = right.where(cost <= self.cost, -math.inf)
            cost = cost.where(right == right.max(), math.inf)
            return int(cost.argmin())
        assert self.right is not None
        cost = cost.where(right >= self.right, math.inf)
        if cost.min() == math.inf:
            return None
        return int(right.where(cost == cost.min(), -math.inf).argmax())


class ThresholdSearch:
    """Find the thresholds of the best accuracy or the least cost.

    All combinations of quantiles of the confidences are tried at once: the
    samples that stay at exits 0 to k, and the answers that become right by
    it, are cumulative sums of a histogram over the confidences at these
    exits. Then ever finer grids are laid around the best combination, and
    around the share-based solution, so the result is never worse than that
    on the held-out samples. What is prepared once serves any number of
    budgets.

    Args:
        held_out (HeldOut): The samples.
        costs (Sequence[float]): Cumulative cost of each exit.

    Raises:
        ValueError: If the costs do not fit.
    """

    @one_thread()
    def __init__(self, held_out: HeldOut, costs: Sequence[float]) -> None:
        num_exits, self._num_samples = held_out.confidences.shape
        self._held_out = held_out
        self._costs = check_costs(costs, num_exits)
        # A cut c lets the samples leave whose rank is at least c: all for 0,
        # none for the number of different confidences.
        self._values: List[Tensor] = []
        self._ranks: List[Tensor] = []
        for row in held_out.confidences[:-1]:
            values, ranks = row.unique(return_inverse=True)
            self._values.append(values)
            self._ranks.append(ranks)
        right = held_out.right.double()
        self._first_right = float(right[0].sum())
        self._gains = right[1:] - right[:-1]
        levels = _levels(CELLS, num_exits - 1)
        index = torch.linspace(0, self._num_samples - 1, levels).round().long()
        self._grids = [
            self._grid(k,
                       ranks.sort().values[index])
            for k, ranks in enumerate(self._ranks)
        ]
        self._tables = self._try_all(self._grids)

    @one_thread()
    def for_budget(self, budget: float) -> Tuple[float, ...]:
        """Thresholds of the best accuracy that keep a budget.

        Args:
            budget (float): Largest mean cost of one sample; above that of
                the last exit it is met by all thresholds.

        Returns:
            tuple[float]: One threshold for each exit but the last.

        Raises:
            ValueError: If the budget is below the cost of the first exit.
        """
        check_budget(budget, self._costs)
        return self._thresholds(self._within(budget))

    @one_thread()
    def for_accuracy(self, min_accuracy: float) -> Tuple[float, ...]:
        """Thresholds of the least cost that keep an accuracy.

        Args:
            min_accuracy (float): Smallest share of right answers, in [0, 1].

        Returns:
            tuple[float]: One threshold for each exit but the last.

        Raises:
            ValueError: If no thresholds are found that are as accurate.
        """
        # As a whole number, so that rounding does not decide.
        least = math.ceil(min_accuracy * self._num_samples - 1e-6)
        found, most = self._by_budgets(least)
        if most < least:
            raise ValueError(
                f'no thresholds reach an accuracy of {min_accuracy:.6g} on '
                f'the held-out samples; the best found have '
                f'{most / self._num_samples:.6g}')
        starts = [
            self._cuts(solve_by_shares(self._held_out, shares))
            for shares in paper_shares(len(self._costs))
        ]
        starts = [cuts for cuts in starts if self._at(cuts)[1] >= least]
        starts.sort(key=lambda cuts: self._at(cuts)[0])
        goal = _Goal(right=least)
        return self._thresholds(self._best(goal, [found, *starts[:1]]))

    def _by_budgets(self, least: int) -> Tuple[List[int], float]:
        """Cuts of about the least budget that brings enough right answers.

        Args:
            least (int): How many are enough.

        Returns:
            tuple: The cuts, and how many answers are right; not enough if
            no budget brings enough.
        """
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
        """Cuts of the best accuracy that keep a budget."""
        shares = share_solution_for_budget(self._held_out, self._costs, budget)
        goal = _Goal(cost=budget * self._num_samples * ROUNDING)
        return self._best(goal, [self._cuts(shares)])

    def _grid(self, index: int, cuts: Tensor) -> Tensor:
        """Cuts to try at one exit, with all leave and none leaves."""
        ends = cuts.new_tensor([0, len(self._values[index])])
        return torch.cat([cuts, ends]).unique()

    def _try_all(self, grids: Sequence[Tensor]) -> Tuple[Tensor, Tensor]:
        """Total cost and right answers of all combinations of cuts.

        Those of exit k + 1 instead of k are added for each sample that stays
        at exit k, so only who stays needs to be counted.
        """
        sizes = [len(grid) for grid in grids]
        costs = self._gains.new_full(sizes, self._num_samples * self._costs[0])
        right = self._gains.new_full(sizes, self._first_right)
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
            right += gain.reshape(shape)
        return costs, right

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
                near = torch.cat(
                    [near.to(grid.device),
                     grid.new_tensor([cut])])
                around.append(self._grid(k, near))
            grids, before = around, cuts
            best = goal.pick(*self._try_all(grids))
            assert best is not None  # the grid holds the old cuts
            cuts = _unravel(best, grids)
            if complete and cuts == before:
                break
        return cuts

    def _at(self, cuts: Sequence[int]) -> Tuple[float, float]:
        """Total cost and right answers of one combination."""
        under_way = torch.ones_like(self._ranks[0], dtype=torch.bool)
        cost = self._num_samples * self._costs[0]
        right = self._first_right
        for k, cut in enumerate(cuts):
            under_way &= self._ranks[k] < cut
            step = self._costs[k + 1] - self._costs[k]
            cost += step * int(under_way.sum())
            right += float(self._gains[k][under_way].sum())
        return cost, right

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


def search_thresholds(
        held_out: HeldOut,
        costs: Sequence[float],
        budget: Optional[float] = None,
        min_accuracy: Optional[float] = None) -> Tuple[float, ...]:
    """Thresholds of the best accuracy under a budget, or the other way.

    See :class:`ThresholdSearch`, which serves many budgets faster.

    Args:
        held_out (HeldOut): The samples.
        costs (Sequence[float]): Cumulative cost of each exit.
        budget (float, optional): Largest mean cost of one sample: look for
            the best accuracy. Defaults to None.
        min_accuracy (float, optional): Smallest share of right answers, in
            [0, 1]: look for the least cost. Defaults to None.

    Returns:
        tuple[float]: One threshold for each exit but the last.

    Raises:
        ValueError: If not exactly one of both is given, or it cannot be
            met; the range is named.
    """
    if (budget is None) == (min_accuracy is None):
        raise ValueError(f'give either a budget or a smallest accuracy, got '
                         f'budget={budget!r} and '
                         f'min_accuracy={min_accuracy!r}')
    search = ThresholdSearch(held_out, costs)
    if budget is not None:
        return search.for_budget(budget)
    assert min_accuracy is not None
    return search.for_accuracy(min_accuracy)
