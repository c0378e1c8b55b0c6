# Copyright (c) mmdynperceiver contributors. All rights reserved.
import numpy as np
import pytest
import torch

from mmdynperceiver.core import ExitPolicy
from mmdynperceiver.core.criteria import CRITERIA, confidences
from mmdynperceiver.deploy import Policy
from mmdynperceiver.deploy.policy import all_finite

TEMPERATURES = [None, (0.5, 1.7, 1., 2.)]


def make_logits(samples=200, classes=6):
    """Logits of four exits that agree now and then, some of them sure."""
    rng = np.random.default_rng(0)
    common = rng.standard_normal((samples, classes))
    scale = rng.uniform(0.1, 2, (samples, 1))
    return [((common + rng.standard_normal(common.shape)) * scale).astype('f4')
            for _ in range(4)]


@pytest.mark.parametrize('temperature', TEMPERATURES)
@pytest.mark.parametrize('criterion', CRITERIA)
def test_decides_as_the_core(criterion, temperature):
    all_logits = make_logits()
    tensors = [torch.from_numpy(logits) for logits in all_logits]
    conf = confidences(tensors, criterion, temperature)
    thresholds = [values.median().item() for values in conf[:-1]]
    core = ExitPolicy(4, thresholds, criterion, temperature)
    policy = Policy(4, thresholds, criterion, temperature)
    theirs = ours = None
    shares = []
    for k in range(4):
        expected, left, theirs = core.decide(k, tensors[k], theirs)
        got = policy.decide(k, all_logits[k], ours)
        ours = got.memory
        np.testing.assert_allclose(got.confidence, expected, atol=1e-5)
        # Rounding may decide on a confidence that is the threshold itself.
        clear = np.ones(200, bool)
        if k < 3 and criterion != 'patience':
            clear = np.abs(expected.numpy() - thresholds[k]) > 1e-5
        assert clear.mean() > 0.95
        np.testing.assert_array_equal(got.leaves[clear], left.numpy()[clear])
        shares.append(got.leaves.mean())
    assert 0 < shares[0] and shares[3] == 1


@pytest.mark.parametrize('criterion', CRITERIA)
def test_zero_lets_all_leave_and_above_one_none(criterion):
    logits = np.concatenate([
        np.zeros((1, 3), np.float32),
        np.array([[1e4, -1e4, 0], [-3, 88, 2]], np.float32)
    ])
    assert Policy(4, (0, 2, 2), criterion).decide(0, logits).leaves.all()
    none = Policy(4, (2, 2, 2), criterion).decide(0, logits)
    assert not none.leaves.any()
    assert ((0 <= none.confidence) & (none.confidence <= 1)).all()


def test_without_thresholds_only_the_last_exit():
    logits = np.array([[9, 0]], np.float32)
    policy = Policy(2)
    assert not policy.decide(0, logits).leaves.any()
    assert policy.decide(1, logits).leaves.all()


@pytest.mark.parametrize('settings, message', [
    (dict(thresholds=(0.5, )), '4 exits need 3 thresholds'),
    (dict(thresholds=(0.5, -1, 0)), 'exit 1 .*got -1'),
    (dict(criterion='luck'), "got 'luck'"),
    (dict(temperature=0), 'exit 0 .*got 0'),
])
def test_refuses_what_the_core_refuses(settings, message):
    for kind in (Policy, ExitPolicy):
        with pytest.raises(ValueError, match=message):
            kind(4, **settings)


@pytest.mark.parametrize('settings', [
    dict(thresholds='123'),
    dict(temperature='1234'),
    dict(temperature=b'1234'),
])
def test_texts_are_no_numbers(settings):
    for kind in (Policy, ExitPolicy):
        with pytest.raises(TypeError, match="number.*, got b?'123"):
            kind(4, **settings)


def test_one_class_has_no_entropy():
    with pytest.raises(ValueError, match='at least two classes, got 1'):
        Policy(2, (0.5, ), 'entropy').decide(0, np.zeros((1, 1), np.float32))


@pytest.mark.filterwarnings('error')
def test_all_finite():
    largest = np.finfo(np.float32).max
    for row in ([1, 2], [largest] * 4):
        assert all_finite(np.array([row, row], np.float32)) is True
    for row in ([1, np.nan], [np.inf, -np.inf], [1, -np.inf]):
        assert all_finite(np.array([[1, 2], row], np.float32)) is False


def test_all_loops_decide_as_the_replay(monkeypatch, repo_root):
    """With every criterion and ensemble; the tool goes on for more."""
    monkeypatch.syspath_prepend(repo_root / 'tools/dev')
    from compare_policies import compare
    found = compare(80)
    assert .3 < found['early'] / found['samples'] < .95
    assert found['close'] < .01 * found['samples']
