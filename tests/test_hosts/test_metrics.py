# Copyright (c) mmdynperceiver contributors. All rights reserved.
import pickle

import pytest
import torch
from mmengine.registry import METRICS

from mmdynperceiver.errors import InputError
from mmdynperceiver.hosts.metrics import EarlyExitMetric, label_ranks

MACS = (10, 20, 30, 40)
# Three samples of three classes; the ranks of the true class by hand.
LABELS = (0, 2, 1)
EXIT_LOGITS = (
    ((3., 1, 2), (1., 2, 3), (2., 1, 0), (5., 0, 0)),  # ranks 0 2 0 0
    ((3., 2, 1), (3., 1, 2), (1., 3, 2), (0., 1, 2)),  # ranks 2 1 1 0
    ((3., 2, 1), (3., 2, 1), (3., 1, 2), (2., 3, 1)),  # ranks 1 1 2 0
)
LEFT_AT = (0, 1, 3)


def sample(index, all_exits=True):
    logits = torch.tensor(EXIT_LOGITS[index])
    left = LEFT_AT[index]
    data = dict(
        gt_label=torch.tensor([LABELS[index]]),
        pred_score=logits[left].softmax(0),
        exit_index=left,
        macs=MACS[left])
    if all_exits:
        data.update(exit_logits=logits, exit_macs=MACS)
    return data


def evaluate(metric, *batches):
    size = 0
    for batch in batches:
        metric.process(None, batch)
        size += len(batch)
    return metric.evaluate(size)


THIRD = 100 / 3
DYNAMIC = {
    'dynamic/top1': 2 * THIRD,
    'dynamic/top2': 100.,
    'exit0/share': 1 / 3,
    'exit1/share': 1 / 3,
    'exit2/share': 0.,
    'exit3/share': 1 / 3,
    'dynamic/macs': 70 / 3,
}
AT_EXITS = {
    'exit0/top1': THIRD,
    'exit0/top2': 2 * THIRD,
    'exit1/top1': 0.,
    'exit1/top2': 2 * THIRD,
    'exit2/top1': THIRD,
    'exit2/top2': 2 * THIRD,
    'exit3/top1': 100.,
    'exit3/top2': 100.,
    **{
        f'exit{k}/macs': MACS[k]
        for k in range(4)
    },
}


def test_by_hand():
    metric = EarlyExitMetric(topk=(1, 2))
    result = evaluate(metric, [sample(0), sample(1)], [sample(2)])
    assert result == pytest.approx({**DYNAMIC, **AT_EXITS})


def test_after_really_stopping():
    result = evaluate(
        EarlyExitMetric(topk=(1, 2)), [sample(i, False) for i in range(3)])
    assert result == pytest.approx(DYNAMIC)


def test_k_that_is_always_right_is_left_out():
    samples = [sample(i) for i in range(3)]
    result = evaluate(EarlyExitMetric(), samples)
    assert {'exit1/top1', 'dynamic/top1'} <= set(result)
    assert not [name for name in result if name.endswith('top5')]
    # Unless there is no other.
    result = evaluate(EarlyExitMetric(topk=5), samples)
    assert result['exit1/top5'] == result['dynamic/top5'] == 100


def test_padding_of_distributed_samplers_is_dropped():
    metric = EarlyExitMetric(topk=1)
    metric.process(None, [sample(0), sample(1), sample(2), sample(0)])
    assert metric.evaluate(3)['dynamic/top1'] == pytest.approx(2 * THIRD)


def test_what_other_processes_send():
    """Results come pickled from other processes."""
    metric = EarlyExitMetric(topk=(1, 2))
    metric.process(None, [sample(i) for i in range(3)])
    received = pickle.loads(pickle.dumps(metric.results))
    assert metric.compute_metrics(received) == pytest.approx({
        **DYNAMIC,
        **AT_EXITS
    })


def test_keeps_little_of_each_sample():
    metric = EarlyExitMetric()
    metric.process(None, [sample(0)])
    assert len(pickle.dumps(metric.results)) < 250


def test_found_from_every_scope():
    metric = METRICS.build(dict(type='EarlyExitMetric', prefix='digits'))
    assert 'digits/exit0/top1' in evaluate(metric, [sample(0)])


def test_ties_go_to_the_lower_class():
    scores = torch.tensor([[1., 1, 0], [1., 1, 0], [0., 0, 0]])
    ranks = label_ranks(scores, torch.tensor([0, 1, 2]))
    assert ranks.tolist() == [0, 1, 2]
    top = scores.argmax(1) == torch.tensor([0, 1, 2])
    assert torch.equal(ranks == 0, top)


def test_nan_is_never_right():
    scores = torch.tensor([[float('nan')] * 3, [0., 0, float('nan')]])
    assert label_ranks(scores, torch.tensor([0, 0])).tolist() == [3, 3]
    broken = sample(0)
    broken['exit_logits'] = broken['exit_logits'] * float('nan')
    result = evaluate(EarlyExitMetric(topk=5), [broken])
    assert result['exit0/top5'] == 0


@pytest.mark.parametrize('key', ['gt_label', 'pred_score', 'exit_index'])
def test_names_what_is_missing(key):
    data = sample(0)
    del data[key]
    with pytest.raises(InputError, match=key):
        EarlyExitMetric().process(None, [data])


def test_refuses_several_labels():
    data = sample(0)
    data['gt_label'] = torch.tensor([0, 1])
    with pytest.raises(InputError, match='got 2 labels for 1 samples'):
        EarlyExitMetric().process(None, [data])


@pytest.mark.parametrize('topk', [(), (0, ), (1.5, ), -1])
def test_refuses_topk(topk):
    with pytest.raises(ValueError, match='topk'):
        EarlyExitMetric(topk=topk)
