# Copyright (c) mmdynperceiver contributors. All rights reserved.
import pytest
import torch

from mmdynperceiver.calibration.goals import (SOLVERS, Goal, choose_point,
                                              parse_accuracy, parse_amount,
                                              solve)
from mmdynperceiver.calibration.outcomes import ExitOutcomes
from mmdynperceiver.errors import InputError
from mmdynperceiver.io.atomic import write_json


@pytest.mark.parametrize('text, value', [
    ('7.5M', 7.5e6),
    ('1.2G', 1.2e9),
    ('1.2 g', 1.2e9),
    ('300k', 3e5),
    ('7500000', 7.5e6),
    ('7.5e6', 7.5e6),
    ('50%', 100.),
    ('.5', 0.5),
])
def test_amounts(text, value):
    assert parse_amount(text, 200.) == pytest.approx(value)


@pytest.mark.parametrize(
    'text', ['', 'M', '-1', '0', '0%', 'nan', '7.5MB', '1,2G', '1e999'])
def test_no_amounts(text):
    with pytest.raises(InputError, match='positive number.*got'):
        parse_amount(text, 200.)


def test_accuracies():
    assert parse_accuracy('0.95') == parse_accuracy('95%') == 0.95
    assert parse_accuracy('1') == 1
    for text in ('95', '101%', '-0.1', 'high', ''):
        with pytest.raises(InputError, match='share such as 0.95'):
            parse_accuracy(text)


@pytest.mark.parametrize('budget', [9.9e5, float('nan')])
def test_says_the_least_budget(budget):
    with pytest.raises(
            InputError, match='least budget is 1M MACs .* 4M MACs.* got'):
        Goal((1e6, 2e6, 4e6), budget=budget)
    assert Goal((1e6, 2e6, 4e6), budget=1e6).note == ''


@pytest.mark.parametrize('budget', [4e6, 4.1e6, 1e12])
def test_budgets_that_all_thresholds_keep(budget):
    assert 'any thresholds keep it' in Goal((1e6, 4e6), budget=budget).note


@pytest.mark.parametrize('solver', SOLVERS)
def test_what_was_asked_for(solver):
    conf = torch.linspace(0, 1, 8).expand(2, 8)
    classes = ExitOutcomes(conf, conf > 0.2, (9, 9))
    boxes = ExitOutcomes(conf, conf - 1, (9, 9))

    def asked(outcomes, **wanted):
        goal = Goal((1, 2), **wanted)
        (thresholds, found), = solve(outcomes, goal, solver)
        # The goal counts in costs of its own.
        outcome = outcomes.with_cost((1, 2)).evaluate(thresholds)
        assert outcome.cost <= wanted.get('budget', 2)
        assert outcome.utility >= wanted.get('min_utility', -1)
        return found

    assert asked(classes, budget=1.5) == dict(budget_macs=1.5)
    assert asked(classes, unit='ms', budget=2) == dict(budget_ms=2)
    assert asked(classes, min_utility=.7) == dict(min_accuracy=.7)
    assert asked(boxes, min_utility=-.6) == dict(min_utility=-.6)
    swept = solve(boxes, Goal((1, 2)), solver)
    assert [found for _, found in swept
            ] == [dict(sweep='paper', index=k) for k in range(33)]


@pytest.fixture
def sweep(tmp_path):
    """Three points; the middle one is the most accurate."""
    path = str(tmp_path / 'sweep.json')
    found = [(1e6, 0.5), (2e6, 0.9), (3e6, 0.9), (3.5e6, 0.8)]
    points = [
        dict(
            thresholds=[0.5],
            expected=dict(accuracy=a, macs=m, macs_per_exit=[1e6, 4e6]))
        for m, a in found
    ]
    write_json(path, dict(points=points))
    return path


@pytest.mark.parametrize('budget, number', [('1M', 0), ('1.9M', 0), ('50%', 1),
                                            ('3.2M', 1), ('500%', 1)])
def test_points_within_a_budget(sweep, budget, number):
    assert choose_point(sweep, budget) == f'{sweep}:{number}'


def test_points_that_cost_too_much(sweep, tmp_path):
    with pytest.raises(InputError, match='least budget .* 1M MACs, got 999.9'):
        choose_point(sweep, '999.9k')
    with pytest.raises(InputError, match="got 'much'"):
        choose_point(sweep, 'much')
    write_json(tmp_path / 'bare.json', dict(thresholds=[0.5]))
    with pytest.raises(InputError, match='bare.json.* does not say what'):
        choose_point(str(tmp_path / 'bare.json'), '1M')
