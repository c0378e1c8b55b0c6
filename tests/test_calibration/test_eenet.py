# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The scheduler that policies are compared with, by hand and by chance."""
import math

import pytest
import torch

from mmdynperceiver.core.policy import leave_at

COST = (1., 2., 4.)


@pytest.fixture
def eenet(repo_root, monkeypatch):
    monkeypatch.syspath_prepend(repo_root / 'tools/dev')
    import eenet
    return eenet


def test_scores_by_hand(eenet):
    logits = [torch.tensor([[math.log(3), 0.]]), torch.tensor([[0., 0.]])]
    inputs = eenet.inputs_of([*logits, torch.tensor([[0., 1.]])])
    entropy = -(.75 * math.log(.75) + .25 * math.log(.25)) / math.log(2)
    assert inputs[0][0].tolist() == pytest.approx(
        [.75, .25, .75, 1 - entropy, 1])
    # Equal logits vote for the first class; of three exits two do.
    assert inputs[1][0].tolist() == pytest.approx([.5, .5, .5, 0, 1])
    assert inputs[2][0, -1] == pytest.approx(2 / 3)
    found = eenet.scores(
        [torch.tensor([1., 0, 0, 0, -1]),
         torch.tensor([0., 0, 2, 0, 0, 3])], inputs[:2])
    first = 1 / (1 + math.exp(.25))
    assert found[:, 0].tolist() == pytest.approx(
        [first, 1 / (1 + math.exp(-1 - 3 * first))])


def test_quotas_by_hand(eenet):
    found = torch.tensor([[.9, .1, .8, .2], [.9, .4, .9, .3], [1., 1, 1, 1]])
    # The best of four leaves, then the best of the other three.
    assert eenet.quotas(found, (.25, .3, .45)) == pytest.approx([.9, .9])
    assert leave_at(found, [.9, .9]).tolist() == [0, 2, 1, 2]
    # Less than one sample: nobody.
    assert eenet.quotas(found, (.2, .5, .3)) == pytest.approx([2, .9])
    assert eenet.quotas(found, (1., .5, 0)) == pytest.approx([.1, 2])


def test_learns_whom_to_let_go(eenet):
    """Half of the samples are told by the first exit, the others only by the
    last; within the least budget that does, all are right."""
    torch.manual_seed(0)
    labels = torch.randint(3, (1000, ))
    easy = torch.rand(1000, 1) < .5
    truth = torch.nn.functional.one_hot(labels, 3).float()
    early = torch.where(easy, 6 * truth + torch.randn(1000, 3),
                        .1 * torch.randn(1000, 3))
    logits = (early, early, 9 * truth)
    budget = .5 * COST[0] + .5 * COST[-1]
    found = eenet.fit(logits, labels, COST, budget)
    outcomes = eenet.outcomes_of(found, logits, labels, COST)
    brought = outcomes.evaluate(found.thresholds)
    assert brought.cost == pytest.approx(budget, rel=.05)
    assert brought.utility > .95
    assert brought.utility > outcomes.at_random(brought.shares).utility + .1
    assert [len(row) for row in found.weights] == [6, 7, 8]
