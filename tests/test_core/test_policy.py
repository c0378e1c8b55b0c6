# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Confidence, thresholds and who leaves where."""
import pytest
import torch

from mmdynperceiver.core import ExitPolicy, fixed_exit_thresholds, select_exits
from mmdynperceiver.core.criteria import confidence
from mmdynperceiver.core.policy import check_thresholds


def logits_of(*probabilities):
    """Two-class logits whose largest probabilities are given."""
    p = torch.tensor(probabilities)
    return torch.stack([p.log(), (1 - p).log()], dim=1)


def test_confidence_by_hand():
    conf = confidence(logits_of(0.9, 0.3))
    torch.testing.assert_close(conf, torch.tensor([0.9, 0.7]))
    assert confidence(torch.zeros(2, 4).half()).dtype == torch.float32


def test_select_exits_by_hand():
    # Sample 0 is sure at once, sample 1 at exit 1 (its own threshold, not
    # reached by exit 0), sample 2 never.
    all_logits = [
        logits_of(0.95, 0.60, 0.55),
        logits_of(0.99, 0.70, 0.60),
        logits_of(0.50, 0.99, 0.65),
        logits_of(0.50, 0.50, 0.80)
    ]
    out = select_exits(all_logits, (0.9, 0.69, 0.7))
    assert out.exit_index.tolist() == [0, 1, 3]
    torch.testing.assert_close(out.confidence, torch.tensor([.95, .7, .8]))
    torch.testing.assert_close(out.logits[1], all_logits[1][1])


def test_equal_to_the_threshold_leaves():
    logits = torch.zeros(1, 4)
    assert select_exits([logits] * 4, (0.25, 0, 0)).exit_index.item() == 0
    policy = ExitPolicy(4, (0.25, 0.5, 0.5))
    assert policy.decide(0, logits)[1].tolist() == [True]
    assert policy.decide(1, logits)[1].tolist() == [False]
    assert policy.decide(3, logits)[1].tolist() == [True]


@pytest.mark.parametrize('thresholds, error, message', [
    ((0.5, 0.5), ValueError, '4 exits need 3 thresholds.*got 2'),
    ('123', TypeError, "sequence of 3 numbers, got '123'"),
    ((0.5, float('nan'), 0.5), ValueError, 'exit 1.*nan'),
    ((0.5, 0.5, -0.1), ValueError, r'exit 2.*-0\.1'),
    ((0.5, 'high', 0.5), TypeError, 'high'),
    (0.5, TypeError, '0.5'),
])
def test_wrong_thresholds(thresholds, error, message):
    with pytest.raises(error, match=message):
        check_thresholds(thresholds)
    policy = ExitPolicy(4, (0.9, 0.9, 0.9))
    with pytest.raises(error, match=message):
        policy.set_thresholds(thresholds)
    assert policy.thresholds == (0.9, 0.9, 0.9)


def test_logits_as_arrays():
    logits = [torch.randn(5, 3) for _ in range(4)]
    expected = select_exits(logits, (0.4, 0.5, 0.6))
    found = select_exits([x.numpy() for x in logits], (0.4, 0.5, 0.6))
    for one, other in zip(found, expected):
        assert torch.equal(one, other)


def test_tensor_thresholds():
    assert check_thresholds(torch.tensor([0.5, 0.25, 2.])) == (0.5, 0.25, 2)


@pytest.mark.parametrize('index', range(4))
def test_fixed_exit(index):
    all_logits = [torch.randn(5, 3) for _ in range(4)]
    out = select_exits(all_logits, fixed_exit_thresholds(index))
    assert out.exit_index.tolist() == [index] * 5


@pytest.mark.parametrize('index', [-1, 4, 1.5])
def test_fixed_exit_out_of_range(index):
    with pytest.raises(ValueError, match=f'0 to 3.*{index}'):
        fixed_exit_thresholds(index)


def test_checkpoint_carries_the_thresholds(tmp_path):
    torch.save(ExitPolicy(4, (0.7, 0.6, 0.5)).state_dict(), tmp_path / 'p.pth')
    state = torch.load(tmp_path / 'p.pth', weights_only=True)
    policy = ExitPolicy(4)
    policy.load_state_dict(state)
    assert policy.thresholds == (0.7, 0.6, 0.5)
    # What the user sets outranks the checkpoint, None included.
    for own in ((0.1, 0.2, 0.3), None):
        policy = ExitPolicy(4)
        policy.set_thresholds(own)
        policy.load_state_dict(state)
        assert policy.thresholds == own


@pytest.mark.parametrize('without', [{}, ExitPolicy(4).state_dict()])
def test_a_checkpoint_without_thresholds_takes_earlier_ones_back(without):
    """Thresholds belong to the weights that they were calibrated for."""
    source = ExitPolicy(4, (0.7, 0.6, 2), 'entropy', (1.5, 1., 1., 1.))
    policy = ExitPolicy(4, None, 'margin')
    policy.load_state_dict(source.state_dict())
    assert policy.criterion == 'entropy'
    policy.load_state_dict(without, strict=False)
    assert policy.thresholds is None
    assert (policy.criterion, policy.temperature) == ('margin', None)
    # What the user has set stays.
    own = ExitPolicy(4, (0.5, 0.5, 0.5))
    own.load_state_dict(without, strict=False)
    assert own.thresholds == (0.5, 0.5, 0.5)


def test_dropping_what_a_checkpoint_brought():
    policy = ExitPolicy(4)
    assert not policy.drop_loaded()
    policy.load_state_dict(ExitPolicy(4, (0.7, 0.6, 2)).state_dict())
    assert policy.drop_loaded()
    assert policy.thresholds is None
    policy.set_thresholds((0.1, 0.1, 0.1))
    assert not policy.drop_loaded()
    assert policy.thresholds == (0.1, 0.1, 0.1)


def test_checkpoint_of_another_network():
    with pytest.raises(ValueError, match='got 2'):
        ExitPolicy(4).load_state_dict(ExitPolicy(3, (0.5, 0.5)).state_dict())


@pytest.mark.parametrize('criterion, temperature', [
    ('entropy', None),
    ('patience', (1., 2., 3., 0.5)),
    ('max_prob', (1.5, 1., 1., 1.)),
])
def test_checkpoint_carries_all_settings(criterion, temperature):
    source = ExitPolicy(4, (0.7, 0.6, 2), criterion, temperature)
    policy = ExitPolicy(4)
    policy.load_state_dict(source.state_dict())
    assert policy.thresholds == (0.7, 0.6, 2)
    assert policy.criterion == criterion
    assert policy.temperature == temperature
    # A state of thresholds alone takes the other settings back as well.
    policy.load_state_dict(ExitPolicy(4, (0.1, 0.2, 0.3)).state_dict())
    assert policy.thresholds == (0.1, 0.2, 0.3)
    assert (policy.criterion, policy.temperature) == ('max_prob', None)
    # What the user sets outranks the checkpoint, as a whole.
    own = ExitPolicy(4, (0.5, 0.5, 0.5))
    own.load_state_dict(source.state_dict())
    assert own.thresholds == (0.5, 0.5, 0.5)
    assert (own.criterion, own.temperature) == ('max_prob', None)


def test_checkpoint_of_thresholds_alone():
    """As all checkpoints were before there were other criteria."""
    state = {
        '_extra_state': torch.tensor([0.7, 0.6, 0.5], dtype=torch.float64)
    }
    policy = ExitPolicy(4)
    policy.load_state_dict(state)
    assert policy.thresholds == (0.7, 0.6, 0.5)
    assert torch.equal(policy.get_extra_state(), state['_extra_state'])


def test_checkpoint_of_a_later_version():
    state = ExitPolicy(4, (0.7, 0.6, 0.5), 'entropy').state_dict()
    state['_extra_state'][1] = 99
    with pytest.raises(ValueError, match='does not know, number 99'):
        ExitPolicy(4).load_state_dict(state)


def test_other_criteria_in_replay():
    # Margins 0.9, 0.2 and 0.1; the largest probability alone would differ.
    logits = logits_of(0.95, 0.60, 0.55)
    out = select_exits([logits] * 2, (0.15, ), 'margin')
    assert out.exit_index.tolist() == [0, 0, 1]
    torch.testing.assert_close(out.confidence, torch.tensor([0.9, 0.2, 0.1]))
    assert 'margin' in repr(ExitPolicy(2, (0.15, ), 'margin'))
