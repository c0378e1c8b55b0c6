# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Test-time augmentation: all views count, at each exit."""
from types import SimpleNamespace

import pytest
import torch
from mmpretrain.models.tta import AverageClsScoreTTA
from mmpretrain.structures import DataSample
from torch import nn

from mmdynperceiver.errors import InputError
from mmdynperceiver.hosts.hooks import EvaluateAllExitsHook
from mmdynperceiver.hosts.metrics import EarlyExitMetric


class Model(nn.Module):
    """Gives each view the predictions at hand."""

    evaluate_all_exits = False

    def __init__(self, views):
        super().__init__()
        self.views = iter(views)

    def test_step(self, data):
        return [next(self.views)]


def view(exit_index, *logits):
    """A view whose right class is 0; exits 0 and 1 cost 10 and 30."""
    logits = torch.tensor(logits)
    sample = DataSample().set_gt_label(0)
    sample.set_pred_score(logits[exit_index].softmax(0))
    sample.set_data(
        dict(
            exit_index=exit_index,
            exit_confidence=0.5 + exit_index / 4,
            exit_logits=logits,
            macs=(10, 30)[exit_index],
            exit_macs=(10, 30)))
    return sample


# Exit 0 is right on the first view and surer to be wrong on the second; exit
# 1 is the other way round.
RIGHT_THEN_WRONG = (view(0, [1., 0.], [0., 1.]), view(1, [0., 3.], [3., 0.]))
BATCH = dict(inputs=[[torch.zeros(1)]] * 2, data_samples=[[None]] * 2)


@pytest.fixture
def tta():
    return AverageClsScoreTTA(module=Model(RIGHT_THEN_WRONG))


def test_views_are_merged_at_each_exit(tta):
    hook, run = EvaluateAllExitsHook(), SimpleNamespace(model=tta)
    hook.before_test(run)
    assert tta.module.evaluate_all_exits
    sample, = tta.test_step(BATCH)
    for k, views in enumerate(zip(*[v.exit_logits for v in RIGHT_THEN_WRONG])):
        mean = torch.stack([logits.softmax(0) for logits in views]).mean(0)
        torch.testing.assert_close(sample.exit_logits[k].exp(), mean)
    assert (sample.macs, sample.exit_macs) == (40, (20, 60))
    assert (sample.exit_index, sample.view_exits) == (1, (0, 1))
    assert sample.exit_confidence == pytest.approx(0.625)
    metric = EarlyExitMetric(topk=1)
    metric.process(BATCH, [sample.to_dict()])
    found = metric.evaluate(1)
    assert [found[f'exit{k}/top1'] for k in (0, 1)] == [0, 100]
    assert [found[f'exit{k}/macs'] for k in (0, 1)] == [20, 60]
    assert [found[f'exit{k}/share'] for k in (0, 1)] == [0.5, 0.5]
    assert found['dynamic/macs'] == 40 and found['dynamic/top1'] == 100
    hook.after_test(run)
    assert 'merge_preds' not in vars(tta)


def test_without_the_hook_it_is_refused(tta):
    sample, = tta.test_step(BATCH)
    metric = EarlyExitMetric()
    with pytest.raises(InputError, match='of the first view only.*Hook'):
        metric.process(BATCH, [sample.to_dict()])
    # One view, as a list of images or as one tensor.
    for inputs in ([torch.zeros(1)], torch.zeros(1, 1)):
        metric.process(dict(inputs=inputs), [sample.to_dict()])


def test_really_stopping_adds_up_too(tta):
    views = [sample.clone() for sample in RIGHT_THEN_WRONG]
    for sample in views:
        del sample.exit_logits
    tta.module.views = iter(views)
    EvaluateAllExitsHook(test=False).before_test(SimpleNamespace(model=tta))
    sample, = tta.test_step(BATCH)
    assert sample.macs == 40 and 'exit_logits' not in sample
