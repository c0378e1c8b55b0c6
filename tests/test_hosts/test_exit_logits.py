# Copyright (c) mmdynperceiver contributors. All rights reserved.
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mmdynperceiver.hosts.exit_logits import ExitLogits, collect_exit_logits


class Sample(SimpleNamespace):

    def get(self, name, default=None):
        return getattr(self, name, default)


class Model(nn.Module):
    """Two exits; the logits of sample i are i and 10 * i."""

    def __init__(self):
        super().__init__()
        self.evaluate_all_exits = False
        self.modes = []

    def test_step(self, batch):
        self.modes.append((self.training, self.evaluate_all_exits))
        if 'fail' in batch:
            raise RuntimeError('no such image')
        return [
            Sample(
                exit_logits=torch.tensor([[i, 0.], [10. * i, 1.]]),
                gt_label=torch.tensor([i % 2]),
                img_path=f'{i}.png') for i in batch
        ]


def test_order_and_shapes():
    model = Model().train()
    found = collect_exit_logits(model, [[0, 1], [2]])
    assert isinstance(found, ExitLogits)
    assert found.logits[0].tolist() == [[0, 0], [1, 0], [2, 0]]
    assert found.logits[1].tolist() == [[0, 1], [10, 1], [20, 1]]
    assert found.labels.tolist() == [0, 1, 0]
    assert found.paths == ['0.png', '1.png', '2.png']


def test_all_exits_are_asked_for_and_the_switch_returns():
    model = Model().train()
    collect_exit_logits(model, [[0]])
    assert model.modes == [(False, True)]
    assert model.evaluate_all_exits is False
    with pytest.raises(RuntimeError, match='no such image'):
        collect_exit_logits(model, [['fail']])
    assert model.evaluate_all_exits is False


def test_no_samples():
    with pytest.raises(ValueError, match='holds no samples'):
        collect_exit_logits(Model(), [])
