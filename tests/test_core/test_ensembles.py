# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Exits that answer together, and the logistic criterion, by hand."""
import json
import math

import pytest
import torch

from mmdynperceiver.core import ExitPolicy, OperatingPoint, select_exits
from mmdynperceiver.core.criteria import stopping_features
from mmdynperceiver.core.ensembles import ensemble_logits
from mmdynperceiver.exit_settings import check_ensemble

LOGITS = [torch.tensor([[3., 0, 1]]), torch.tensor([[1., 2, -1]])]
AVERAGE = dict(kind='average', weights=[[1], [.25, .75]])
STOPPING = [[.5, 1, -1, 2, 3, -2]]


def test_sums_by_hand():
    first, second = ensemble_logits(LOGITS, check_ensemble(AVERAGE, 2))
    assert first.tolist() == [[3, 0, 1]]
    assert second.tolist() == [[1.5, 1.5, -.5]]
    product = check_ensemble(dict(kind='product', weights=[[.5], [.5, 1]]), 2)
    first, second = ensemble_logits(LOGITS, product)
    # Nothing below 0.001 counts for less.
    expected = [[.5 * math.log(3), .5 * math.log(.001), 0]]
    torch.testing.assert_close(first, torch.tensor(expected))
    expected = [[expected[0][0], expected[0][1] + math.log(2), math.log(.001)]]
    torch.testing.assert_close(second, torch.tensor(expected))


def test_what_leaves_are_the_logits_of_the_ensemble():
    out = select_exits(LOGITS, (1., ), ensemble=AVERAGE)
    assert out.logits.tolist() == [[1.5, 1.5, -.5]]
    powers = [math.exp(x) for x in (1.5, 1.5, -.5)]
    assert out.confidence.item() == pytest.approx(powers[0] / sum(powers))


def test_features_by_hand():
    p, q = (x.softmax(1)[0].tolist() for x in LOGITS)
    found = stopping_features(LOGITS)[0].tolist()
    entropy = 1 + sum(x * math.log(x) for x in q) / math.log(3)
    levels = [max(q), q[1] - q[0], entropy, max(p)]  # the first was surer
    levels = [-math.log(1.0001 - level) for level in levels]
    # The first exit said another class.
    assert found == pytest.approx([*levels[:3], 0, levels[3]])
    policy = ExitPolicy(2, (.5, ), 'logistic', stopping=STOPPING)
    conf, leaves, memory = policy.decide(0, LOGITS[0])
    first = stopping_features(LOGITS[:1])[0].tolist()
    score = .5 + sum(a * b for a, b in zip(STOPPING[0][1:], first))
    assert conf.item() == pytest.approx(1 / (1 + math.exp(-score)))
    assert leaves.tolist() == [score >= 0]
    # The last exit is as sure as its largest probability.
    assert policy.decide(1, LOGITS[1],
                         memory)[0].item() == pytest.approx(max(q))


@pytest.mark.parametrize('settings', [
    dict(ensemble=AVERAGE),
    dict(ensemble=AVERAGE, criterion='patience'),
    dict(ensemble=AVERAGE, criterion='entropy', temperature=(2., 1.)),
    dict(criterion='logistic', stopping=STOPPING),
    dict(ensemble=AVERAGE, criterion='logistic', stopping=STOPPING),
])
def test_files_and_checkpoints_carry_it(tmp_path, settings):
    point = OperatingPoint((.7, ), **settings)
    point.save(tmp_path / 'p.json')
    assert OperatingPoint.load(tmp_path / 'p.json') == point
    source = ExitPolicy.from_operating_point(point)
    state = source.get_extra_state()
    assert state.dtype == torch.float64 and state.ndim == 1
    policy = ExitPolicy(2)
    policy.set_extra_state(state)
    assert policy.settings == source.settings
    assert policy.thresholds == (.7, )
    policy.set_extra_state(ExitPolicy(2, (.5, )).get_extra_state())
    assert policy.ensemble is policy.stopping is None


@pytest.mark.parametrize('changes, message', [
    (dict(ensemble=dict(kind='sum', weights=[[1], [1, 1]])), "got 'sum'"),
    (dict(ensemble=dict(kind='average', weights=[[1], [1]])),
     r'rows of \[1, 2\] numbers, got rows of \[1, 1\]'),
    (dict(ensemble=dict(kind='average')), 'kind and weights'),
    (dict(ensemble=[1]), 'kind and weights'),
    (dict(ensemble=dict(AVERAGE, bias=1)), 'kind and weights'),
    (dict(ensemble=dict(kind='average', weights='12')), 'rows of numbers'),
    (dict(ensemble=dict(kind='average', weights=[[1], [1, float('nan')]])),
     'finite'),
    (dict(criterion='logistic'), "'logistic', which needs it"),
    (dict(stopping=STOPPING), "for 'max_prob'"),
    (dict(criterion='logistic', stopping=[[1, 2]]), r'\[6\] numbers'),
    (dict(criterion='logistic', stopping=['123456']), 'rows of numbers'),
    (dict(criterion='logistic', stopping=[[1e999] * 6]), 'finite'),
])
def test_refuses(tmp_path, changes, message):
    content = dict(thresholds=[.5], **changes)
    (tmp_path / 'p.json').write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as caught:
        OperatingPoint.load(tmp_path / 'p.json', 2)
    assert 'p.json' in str(caught.value)
