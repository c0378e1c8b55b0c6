# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Every criterion against numbers worked out by hand."""
import math

import pytest
import torch

from mmdynperceiver.core.criteria import (CHUNK, check_temperature, confidence,
                                          confidences, patience_step)

# Softmax probabilities 1/2, 1/4, 1/4 and 1, 0, 0 and 1/3 each.
LOGITS = torch.tensor([[0.5, 0.25, 0.25], [1., 0., 0.], [1., 1., 1.]]).log()


@pytest.mark.parametrize('criterion, expected', [
    ('max_prob', [1 / 2, 1, 1 / 3]),
    ('margin', [1 / 4, 1, 0]),
    ('entropy', [1 - 1.5 * math.log(2) / math.log(3), 1, 0]),
])
def test_by_hand(criterion, expected):
    conf = confidence(LOGITS, criterion)
    torch.testing.assert_close(conf, torch.tensor(expected))
    assert 0 <= conf.min() and conf.max() <= 1
    both = confidences([LOGITS, LOGITS[:, [1, 0, 2]]], criterion)
    torch.testing.assert_close(both, torch.tensor([expected] * 2))


@pytest.mark.parametrize('criterion, expected', [
    ('max_prob', 4 / 5),
    ('margin', 3 / 5),
    ('entropy', 1 + (0.8 * math.log(0.8) + 0.2 * math.log(0.2)) / math.log(2)),
])
def test_temperature_by_hand(criterion, expected):
    # Probabilities 2/3 and 1/3 squared and scaled: 4/5 and 1/5.
    logits = torch.tensor([[2., 1.]]).log()
    assert confidence(logits, criterion, 0.5).item() == pytest.approx(expected)
    conf = confidences([logits, logits], criterion, (1, 0.5))
    assert conf[0] == confidence(logits, criterion)
    assert conf[1].item() == pytest.approx(expected)


def test_patience_by_hand():
    predicted = torch.tensor([[0, 0, 0, 0], [0, 1, 1, 0], [2, 1, 1, 1]])
    all_logits = torch.nn.functional.one_hot(predicted.T, 3).float()
    expected = torch.tensor([[1, 2, 3, 4], [1, 1, 2, 1], [1, 1, 2, 3]]) / 4
    assert torch.equal(confidences(list(all_logits), 'patience'), expected.T)
    # The memory of the second exit: class, and how often in a row.
    memory = patience_step(all_logits[1], patience_step(all_logits[0]))
    assert memory.tolist() == [[0, 2], [1, 1], [1, 1]]


@pytest.mark.parametrize('criterion', ['max_prob', 'entropy', 'margin'])
def test_stays_in_range(criterion):
    scale = torch.logspace(-6, 3, 200)[:, None]
    conf = confidence(torch.randn(200, 1000) * scale, criterion)
    assert conf.min() >= 0 and conf.max() <= 1
    assert confidence(torch.randn(2, 4).half(),
                      criterion).dtype == torch.float32


def test_chunks_change_nothing():
    logits = torch.randn(CHUNK + 3, 4)
    torch.testing.assert_close(
        confidences([logits] * 2, 'margin', 2.)[1],
        confidence(logits, 'margin', 2.))


@pytest.mark.parametrize('call, message', [
    (lambda: confidence(LOGITS, 'patience'), 'several exits'),
    (lambda: confidence(LOGITS, 'loudness'), "got 'loudness'"),
    (lambda: confidences([LOGITS], 'loudness'), "got 'loudness'"),
    (lambda: confidence(LOGITS[:, :1], 'entropy'), 'two classes, got 1'),
    (lambda: check_temperature((1, 2)), '4 temperatures, got 2'),
    (lambda: check_temperature((1, 2, 0, 1)), 'exit 2 .*got 0'),
    (lambda: check_temperature(float('inf')), 'got inf'),
])
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_temperature_forms():
    assert check_temperature(None) is None
    assert check_temperature(1) is None
    assert check_temperature(2, 3) == (2, 2, 2)
    assert check_temperature(torch.tensor([1., 2.]), 2) == (1, 2)
    with pytest.raises(TypeError, match="'hot'"):
        check_temperature('hot')


def test_learned_is_one_logit():
    logits = torch.tensor([[-1.], [0.], [2.]])
    expected = torch.tensor([0.2689, 0.5, 0.8808])
    torch.testing.assert_close(
        confidence(logits, 'learned'), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        confidence(2 * logits, 'learned', 2.), expected, atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match='one logit of each sample, got 2'):
        confidence(torch.zeros(3, 2), 'learned')
