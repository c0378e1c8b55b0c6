# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Loss weights and self-distillation against hand calculations."""
import pytest
import torch

from mmdynperceiver.core import LossWeights, exit_losses
from mmdynperceiver.core.losses import self_distillation


def test_published_recipe_is_the_default():
    weights = LossWeights()
    assert weights.ce == (0.5, 0.5, 1, 1)
    assert weights.distill == (0.5, 0.5, 0.5)
    assert weights.temperature == 1


def test_paper_weights():
    weights = LossWeights.paper(alpha=0.3)
    assert weights.ce == pytest.approx((0.3, 0.3, 0.3, 1))
    assert weights.distill == pytest.approx((0.7, 0.7, 0.7))


def test_self_distillation_by_hand():
    teacher = torch.tensor([[0.75, 0.25], [0.5, 0.5]])
    student = torch.tensor([[0.5, 0.5], [0.5, 0.5]])
    expected = (teacher * (teacher / student).log()).sum() / 2
    losses = self_distillation([student.log(), teacher.log()])
    torch.testing.assert_close(losses, (expected, ))


def test_temperature_softens_and_scales():
    logits = [torch.tensor([[0., 3.]]), torch.tensor([[2., 1.]])]
    soft, = self_distillation([x / 4 for x in logits])
    loss, = self_distillation(logits, temperature=4)
    torch.testing.assert_close(loss, 16 * soft)


def test_the_teacher_gets_no_gradient():
    logits = [torch.randn(3, 5, requires_grad=True) for _ in range(4)]
    sum(self_distillation(logits)).backward()
    assert logits[-1].grad is None
    assert all(x.grad.abs().sum() > 0 for x in logits[:-1])


@pytest.mark.parametrize('kwargs, message', [
    (dict(distill=(1., )), '3 distillation weights.*'),
    (dict(ce=(-1, 1, 1, 1)), 'at least 0.*-1'),
    (dict(temperature=0), 'temperature.*0'),
])
def test_wrong_weights(kwargs, message):
    with pytest.raises(ValueError, match=message):
        LossWeights(**kwargs)


def test_wrong_alpha():
    with pytest.raises(ValueError, match='alpha.*2'):
        LossWeights.paper(2)


def test_losses_of_all_exits_by_hand():
    logits = [torch.randn(4, 3).half() for _ in range(3)]
    target = torch.tensor([0, 2, 1, 1])
    weights = LossWeights(ce=(0, 2, 1), distill=(0.5, 0))
    losses = exit_losses(logits, target, torch.nn.functional.cross_entropy,
                         weights)
    assert set(losses) == {
        'loss_exit0', 'loss_exit1', 'loss_exit2', 'loss_distill0', 'acc_exit0',
        'acc_exit1', 'acc_exit2'
    }
    exact = [x.double() for x in logits]
    picked = exact[1].log_softmax(1).gather(1, target[:, None]).mean()
    assert losses['loss_exit0'].item() == 0
    assert losses['loss_exit1'].item() == pytest.approx(
        -2 * picked.item(), rel=1e-5)
    divergence = self_distillation([exact[0].float(), exact[2].float()])[0]
    torch.testing.assert_close(losses['loss_distill0'], 0.5 * divergence)
    right = (logits[2].argmax(1) == target).double().mean()
    assert losses['acc_exit2'].item() == pytest.approx(100 * right.item())


def test_soft_targets_have_no_accuracy():
    losses = exit_losses([torch.randn(2, 3)] * 2, torch.full((2, 3), 1 / 3),
                         torch.nn.functional.cross_entropy,
                         LossWeights(ce=(1, 1), distill=(0, )))
    assert set(losses) == {'loss_exit0', 'loss_exit1'}
