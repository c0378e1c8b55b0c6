# Copyright (c) mmdynperceiver contributors. All rights reserved.
import numpy as np
import pytest
import torch
from mmengine.runner.checkpoint import load_state_dict
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

import mmdynperceiver.classification  # noqa: F401
from mmdynperceiver.hosts.exit_head import build_loss_weights

CHANNELS = ((3, ), (4, ), (6, ), (6, 4))
LABELS = (1, 0, 2)


def build(**kwargs):
    return MODELS.build({
        'type': 'DynPerceiverHead',
        'num_classes': 3,
        'in_channels': CHANNELS,
        **kwargs
    })


def feats(batch=3):
    return tuple(tuple(torch.randn(batch, c) for c in cs) for cs in CHANNELS)


def hard_samples():
    return [DataSample().set_gt_label(label) for label in LABELS]


def log_softmax(logits):
    logits = logits.astype(np.float64)
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def by_hand(all_logits, target):
    """Classification losses of all exits and divergences of the early."""
    logs = [log_softmax(logits.numpy()) for logits in all_logits]
    losses = [-(target * log).sum(1).mean() for log in logs]
    teacher = np.exp(logs[-1])
    divergences = [(teacher * (logs[-1] - log)).sum(1).mean()
                   for log in logs[:-1]]
    return losses, divergences


LOGITS = [
    torch.randn(3, 3, generator=torch.Generator().manual_seed(k)) * 2
    for k in range(4)
]
ONE_HOT = np.eye(3)[list(LABELS)]


def test_published_recipe_by_hand():
    losses = build().loss_by_feat(LOGITS, hard_samples())
    ce, divergence = by_hand(LOGITS, ONE_HOT)
    for k, weight in enumerate((0.5, 0.5, 1., 1.)):
        assert losses[f'loss_exit{k}'].item() == pytest.approx(
            weight * ce[k], rel=1e-5)
    for k in range(3):
        assert losses[f'loss_distill{k}'].item() == pytest.approx(
            0.5 * divergence[k], rel=1e-5)


def test_paper_equation_3_by_hand():
    head = build(loss_weights=dict(type='paper', alpha=0.3))
    losses = head.loss_by_feat(LOGITS, hard_samples())
    ce, divergence = by_hand(LOGITS, ONE_HOT)
    expected = ce[3] + sum(0.3 * ce[k] + 0.7 * divergence[k] for k in range(3))
    total = sum(v for k, v in losses.items() if 'loss' in k)
    assert total.item() == pytest.approx(expected, rel=1e-5)


def test_soft_targets_with_smoothing_by_hand():
    scores = torch.tensor([[0.2, 0.8, 0], [1, 0, 0], [0.5, 0.25, 0.25]])
    samples = [DataSample().set_gt_score(score) for score in scores]
    head = build(loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1))
    losses = head.loss_by_feat(LOGITS, samples)
    ce, _ = by_hand(LOGITS, 0.9 * scores.numpy() + 0.1 / 3)
    for k, weight in enumerate((0.5, 0.5, 1., 1.)):
        assert losses[f'loss_exit{k}'].item() == pytest.approx(
            weight * ce[k], rel=1e-5)
    assert not any(name.startswith('acc') for name in losses)


def test_plain_cross_entropy_takes_soft_targets():
    scores = torch.tensor([[0.2, 0.8, 0], [1, 0, 0], [0.5, 0.25, 0.25]])
    samples = [DataSample().set_gt_score(score) for score in scores]
    losses = build().loss_by_feat(LOGITS, samples)
    ce, _ = by_hand(LOGITS, scores.numpy())
    assert losses['loss_exit3'].item() == pytest.approx(ce[3], rel=1e-5)


def test_names_and_accuracies():
    losses = build().loss_by_feat(LOGITS, hard_samples())
    assert set(losses) == {
        *(f'loss_exit{k}' for k in range(4)),
        *(f'loss_distill{k}' for k in range(3)),
        *(f'acc_exit{k}' for k in range(4))
    }
    for k, logits in enumerate(LOGITS):
        right = (logits.argmax(1).numpy() == LABELS).mean()
        assert losses[f'acc_exit{k}'].item() == pytest.approx(100 * right)


def test_without_weight_no_distillation_but_a_place_in_the_graph():
    head = build(loss_weights=dict(ce=[0, 0, 0, 1], distill=[0, 0, 0]))
    losses = head.loss(feats(), hard_samples())
    assert not any('distill' in name for name in losses)
    assert losses['loss_exit0'].item() == 0
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    assert all(p.grad is not None for p in head.parameters())


def test_losses_are_in_single_precision():
    low = [logits.bfloat16() for logits in LOGITS]
    losses = build().loss_by_feat(low, hard_samples())
    assert all(value.dtype == torch.float32 for value in losses.values())
    exact = build().loss_by_feat([t.float() for t in low], hard_samples())
    assert torch.equal(losses['loss_exit3'], exact['loss_exit3'])


def test_loss_options_do_not_change_the_config():
    config = dict(ce=[1, 1, 1, 1], distill=[0, 0, 0])
    build(loss_weights=config)
    assert config == dict(ce=[1, 1, 1, 1], distill=[0, 0, 0])


@pytest.mark.parametrize('config, message', [
    (dict(type='equation'), "got 'equation'"),
    (dict(ce=[1, 1], distill=[1]), 'each of the 4 exits'),
    (dict(ce=[1, 1, 1, 1], distill=[1]), 'need 3 distillation'),
    (dict(type='paper', alpha=2), 'got 2'),
])
def test_refuses_loss_weights(config, message):
    with pytest.raises(ValueError, match=message):
        build_loss_weights(config)


def test_refuses_unknown_loss_weights():
    with pytest.raises(TypeError, match='alpha'):
        build_loss_weights(dict(alpha=0.5))


def test_predicts_at_the_last_exit():
    head = build().eval()
    vectors = feats()
    logits = head(vectors)
    samples = head.predict(vectors)
    assert [s.exit_index for s in samples] == [3, 3, 3]
    scores = torch.stack([s.pred_score for s in samples])
    torch.testing.assert_close(scores, logits[3].softmax(1))
    labels = torch.cat([s.pred_label for s in samples])
    assert torch.equal(labels, logits[3].argmax(1))
    torch.testing.assert_close(samples[1].exit_logits[2], logits[2][1])
    assert 'macs' not in samples[0]


def test_fills_in_the_given_samples():
    given = hard_samples()
    samples = build().eval().predict(feats(), given)
    assert all(ours is sample for ours, sample in zip(samples, given))
    assert samples[2].gt_label.item() == 2


def test_refuses_another_number_of_classes():
    weights = build(num_classes=7).state_dict()
    message = 'checkpoint has 7 classes and the model has 3.*num_classes=7'
    with pytest.raises(ValueError, match=message):
        load_state_dict(build(), weights)
    with pytest.raises(ValueError, match=message):
        build().load_state_dict(weights)


def test_takes_the_same_number_of_classes():
    source, head = build(), build()
    load_state_dict(head, source.state_dict(), strict=True)
    assert torch.equal(head.exits.classifiers[0].weight,
                       source.exits.classifiers[0].weight)
