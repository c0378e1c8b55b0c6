# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Both solvers against brute force, and against each other."""
import itertools
import random
from dataclasses import replace

import pytest
import torch

from mmdynperceiver.calibration.outcomes import ExitOutcomes
from mmdynperceiver.calibration.share_solver import (share_solution_for_budget,
                                                     solve_by_shares)
from mmdynperceiver.calibration.threshold_search import ThresholdSearch


def random_case(seed, samples=(30, 300), exits=(2, 3, 4, 4, 5)):
    """Random samples, some with many equal confidences, and costs."""
    choose = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    shape = choose.choice(exits), choose.choice(samples)
    levels = choose.choice((3, 10, 10**6))
    conf = (torch.rand(shape, generator=generator) * levels).ceil() / levels
    skill = torch.linspace(0.6, 1, shape[0])[:, None]
    right = torch.rand(shape, generator=generator) < conf * skill
    if seed % 3 == 0:  # each sample several times
        conf, right = conf.repeat(1, 3), right.repeat(1, 3)
    costs = sorted(choose.choice((choose.random(), 1)) for _ in conf)
    return ExitOutcomes(conf, right, costs)


def budgets_of(costs):
    low, high = costs[0], costs[-1]
    shares = (0, 0.03, 0.2, 0.5, 0.8)
    return [low + share * (high - low) for share in shares] + [high]


def all_outcomes(held_out):
    """What all thresholds bring, by trying each."""
    tried = [[0., *sorted(set(row.tolist())), 2.]
             for row in held_out.confidence[:-1]]
    return [
        held_out.evaluate(thresholds)
        for thresholds in itertools.product(*tried)
    ]


@pytest.mark.parametrize('real', [False, True])
@pytest.mark.parametrize('seed', range(12))
def test_search_equals_brute_force(seed, real):
    held_out = random_case(seed, (2, 3, 6), (2, 3, 4))
    if real:  # such as minus the loss of a detector
        torch.manual_seed(seed)
        loss = torch.rand(held_out.utility.shape)
        held_out = replace(held_out, utility=-loss)
    outcomes = all_outcomes(held_out)
    search = ThresholdSearch(held_out)
    for budget in budgets_of(held_out.cost):
        fits = [o for o in outcomes if o.cost <= budget * (1 + 1e-12)]
        best = max((o.utility, -o.cost) for o in fits)
        got = held_out.evaluate(search.for_budget(budget))
        assert (got.utility, -got.cost) == pytest.approx(best)
    for utility in {o.utility for o in outcomes}:
        cheapest = min(o.cost for o in outcomes if o.utility >= utility)
        got = held_out.evaluate(search.for_utility(utility))
        assert got.utility >= utility - 1e-9
        assert got.cost == pytest.approx(cheapest)


@pytest.mark.parametrize('seed', range(40))
def test_search_is_never_worse_than_shares(seed):
    held_out = random_case(seed)
    search = ThresholdSearch(held_out)
    for budget in budgets_of(held_out.cost):
        searched = held_out.evaluate(search.for_budget(budget))
        by_shares = held_out.evaluate(
            share_solution_for_budget(held_out, budget))
        assert max(searched.cost, by_shares.cost) <= budget * (1 + 1e-12)
        assert searched.utility >= by_shares.utility


@pytest.mark.parametrize('seed', range(12))
def test_shares_equal_brute_force(seed):
    """At each exit, the largest threshold that takes enough of the rest."""
    held_out = random_case(seed, (2, 5, 9))
    num_exits, num_samples = held_out.confidence.shape
    shares = torch.rand(num_exits).softmax(0).double()
    shares = (shares / shares.sum()).tolist()
    rest = list(range(num_samples))
    expected = []
    for row, share in zip(held_out.confidence.tolist(), shares[:-1]):
        wanted = min(int(num_samples * share + 0.5), len(rest))
        tried = [2.] if wanted == 0 else sorted(row[i] for i in rest)
        threshold = max(
            t for t in tried if sum(row[i] >= t for i in rest) >= wanted)
        left = [i for i in rest if row[i] >= threshold]
        rest = [i for i in rest if row[i] < threshold]
        expected.append(len(left) / num_samples)
    thresholds = solve_by_shares(held_out.confidence, shares)
    got = held_out.evaluate(thresholds)
    assert got.shares[:-1] == pytest.approx(expected)


def test_many_samples_use_the_budget_up():
    """Beyond the coarse grid, the refinement finds what is left."""
    generator = torch.Generator().manual_seed(0)
    conf = torch.rand(4, 5000, generator=generator)
    right = torch.rand(4, 5000, generator=generator) < conf
    held_out = ExitOutcomes(conf, right, (1, 2, 4, 5))
    # Every later exit is as good, so accuracy comes from leaving when sure.
    for budget in (1.2, 1.5):
        thresholds = ThresholdSearch(held_out).for_budget(budget)
        got = held_out.evaluate(thresholds)
        other = share_solution_for_budget(held_out, budget)
        assert budget - 0.01 < got.cost <= budget
        assert got.utility > held_out.evaluate(other).utility + 0.005


def test_budgets_at_the_ends():
    held_out = random_case(1)
    costs = [0.1 * (k + 1) for k in range(held_out.num_exits)]
    held_out = held_out.with_cost(costs)
    solvers = (lambda *given: ThresholdSearch(given[0]).for_budget(given[1]),
               share_solution_for_budget)
    for solve in solvers:
        first = held_out.evaluate(solve(held_out, costs[0]))
        assert first.shares[0] == 1
    for solve in solvers:
        last = solve(held_out, costs[-1])
        # More than the last exit costs is not asked too much.
        for budget in (costs[-1] * 1.01, 1e9, float('inf')):
            assert solve(held_out, budget) == last
    assert held_out.evaluate(last).shares[-1] == 1


@pytest.mark.parametrize('goal, value, message', [
    ('budget', 0.9, r'at least .* 1 \(that of the last is 4\), got 0.9'),
    ('budget', float('nan'), 'got nan'),
    ('utility', 1.1, 'an accuracy of 1.1 .*the best found have 0'),
])
def test_refuses(goal, value, message):
    held_out = random_case(1, exits=(4, )).with_cost((1, 2, 3, 4))
    with pytest.raises(ValueError, match=message):
        getattr(ThresholdSearch(held_out), f'for_{goal}')(value)


@pytest.mark.parametrize('costs', [(1, 2, 3), (1, 3, 2, 4), (-1, 2, 3, 4),
                                   (1, 2, 3, float('inf'))])
def test_refuses_costs(costs):
    held_out = random_case(1, exits=(4, ))
    with pytest.raises(ValueError, match='4 finite numbers'):
        held_out.with_cost(costs)


def test_threads_are_left_as_they_were():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        held_out = random_case(1)
        ThresholdSearch(held_out).for_budget(held_out.cost[-1])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
