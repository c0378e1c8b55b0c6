# Copyright (c) mmdynperceiver contributors. All rights reserved.
import copy
import json

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from mmengine.runner.checkpoint import (get_state_dict, load_checkpoint,
                                        weights_to_cpu)
from mmpretrain.structures import DataSample
from tiny import build_model, model_config

from mmdynperceiver.core import OperatingPoint, macs_per_exit, select_exits
from mmdynperceiver.core.criteria import confidences
from mmdynperceiver.core.operating_point import describe_model
from mmdynperceiver.errors import InputError

IMAGES = torch.randn(
    6, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 3


def samples(count=6):
    return [DataSample().set_gt_label(index % 5) for index in range(count)]


def mixed_thresholds(model):
    """Thresholds at which every exit takes some of ``IMAGES``."""
    with torch.no_grad():
        confidences = [t.softmax(1).amax(1) for t in model(IMAGES)]
    left = torch.ones(len(IMAGES), dtype=torch.bool)
    thresholds = []
    for conf in confidences[:3]:
        thresholds.append(conf[left].sort().values[-2:].mean().item())
        left &= conf < thresholds[-1]
    return thresholds


def test_head_follows_from_the_backbone():
    head = dict(type='DynPerceiverHead', num_classes=5)
    config = model_config(
        head=head, train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8)]))
    before = copy.deepcopy(config)
    model = build_model(**config)
    assert config == before
    net = model.backbone.net
    assert model.head.in_channels == net.exit_channels
    # ResNets are published with dropout 0.2 before exit 2.
    assert model.head.exits.classifiers[2][0].p == net.dropout == 0.2
    assert model.data_preprocessor.num_classes == 5
    model = build_model(head=dict(num_classes=5, dropout=0.5))
    assert model.head.exits.classifiers[2][0].p == 0.5


def test_every_parameter_gets_a_gradient():
    model = build_model().train()
    losses = model(IMAGES, samples(), mode='loss')
    total, logged = model.parse_losses(losses)
    total.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    terms = sum(v for k, v in logged.items()
                if k.startswith(('loss_exit', 'loss_distill')))
    assert logged['loss'].item() == pytest.approx(terms.item(), rel=1e-6)


def test_a_batch_of_one_trains():
    model = build_model().train()
    losses = model(IMAGES[:1], samples(1), mode='loss')
    model.parse_losses(losses)[0].backward()
    assert model.head.exits.fkt[0][1].training


def test_mixup_gives_soft_targets():
    model = build_model(
        train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8)])).train()
    data = model.data_preprocessor(
        dict(inputs=IMAGES, data_samples=samples()), training=True)
    losses = model(**data, mode='loss')
    assert 'loss_exit0' in losses and 'acc_exit0' not in losses


def test_without_thresholds_all_run_to_the_last_exit():
    model = build_model().eval()
    out = model(IMAGES, samples(), mode='predict')
    logits = model(IMAGES)
    assert [tuple(t.shape) for t in logits] == [(6, 5)] * 4
    for row, sample in enumerate(out):
        assert sample.exit_index == 3
        torch.testing.assert_close(sample.pred_score,
                                   logits[3][row].softmax(0))
        assert sample.pred_label.item() == logits[3][row].argmax()
        assert sample.exit_logits.shape == (4, 5)
        assert sample.gt_label.item() == row % 5


def test_stopping_equals_the_replay():
    model = build_model().eval()
    thresholds = mixed_thresholds(model)
    expected = select_exits(model(IMAGES), thresholds)
    assert set(expected.exit_index.tolist()) >= {0, 1, 3}
    model.policy.set_thresholds(thresholds)
    macs = macs_per_exit(model.backbone.net, model.head.exits, (3, 32, 32))
    with torch.no_grad():
        stopped = model.predict(IMAGES)
        model.evaluate_all_exits = True
        replayed = model.predict(IMAGES)
    for row, (ours, other) in enumerate(zip(stopped, replayed)):
        index = expected.exit_index[row].item()
        for sample in (ours, other):
            assert sample.exit_index == index
            assert sample.macs == macs[index]
            assert sample.exit_confidence == pytest.approx(
                expected.confidence[row].item(), abs=1e-5)
            torch.testing.assert_close(
                sample.pred_score,
                expected.logits[row].softmax(0),
                atol=1e-5,
                rtol=1e-4)
        assert isinstance(ours.exit_index, int)
        assert 'exit_logits' not in ours and 'exit_logits' in other
        assert other.exit_macs == macs


def test_really_stops(monkeypatch):
    model = build_model(thresholds=[0, 2, 2]).eval()
    model.macs_per_exit((3, 32, 32))  # kept from now on
    run = []
    segment = model.backbone.net.segment
    monkeypatch.setattr(
        model.backbone.net, 'segment', lambda index, state:
        (run.append(index), segment(index, state))[1])
    assert [s.exit_index for s in model.predict(IMAGES)] == [0] * 6
    assert run == [0]


def test_macs_are_counted_once_for_each_size(monkeypatch):
    model = build_model().eval()
    calls = []

    def count(trunk, exits, shape):
        calls.append(shape)
        return (1, 2, 3, 4)

    monkeypatch.setattr('mmdynperceiver.core.complexity.macs_per_exit', count)
    model.predict(IMAGES)
    assert model.predict(IMAGES)[0].macs == 4
    model.predict(torch.rand(1, 3, 64, 32))
    assert calls == [(3, 32, 32), (3, 64, 32)]


def test_under_autocast():
    model = build_model(thresholds=[0.3, 0.3, 0.3])
    with torch.autocast('cpu', torch.bfloat16):
        losses = model.train()(IMAGES, samples(), mode='loss')
        assert losses['loss_distill0'].dtype == torch.float32
        model.parse_losses(losses)[0].backward()
        out = model.eval().predict(IMAGES)
        model.evaluate_all_exits = True
        model.predict(IMAGES)
    assert out[0].pred_score.dtype == torch.float32
    assert out[0].pred_score.sum().item() == pytest.approx(1, abs=1e-5)


def test_fixed_exit_and_thresholds_file(tmp_path):
    model = build_model(exit_index=1).eval()
    assert [s.exit_index for s in model.predict(IMAGES)] == [1] * 6
    with pytest.warns(DeprecationWarning, match='is now exit_index'):
        old = build_model(exit=1)
    assert old.policy.thresholds == model.policy.thresholds
    path = tmp_path / 't.json'
    path.write_text(json.dumps(dict(thresholds=[0.9, 0.8, 0.7])))
    model = build_model(thresholds=str(path))
    assert model.policy.thresholds == (0.9, 0.8, 0.7)


def test_operating_point(tmp_path):
    """Criterion and temperatures follow the file, stopping or replaying."""
    path = str(tmp_path / 'p.json')
    model = build_model().eval()
    with torch.no_grad():
        all_logits = model.head(model.extract_feat(IMAGES))
    temperature = (0.5, 0.5, 2., 1.)
    conf = confidences(all_logits, 'margin', temperature)
    point = OperatingPoint(
        conf.sort(dim=1).values[:3, 3:5].mean(1).tolist(),
        'margin',
        temperature,
        model=describe_model(*model.exit_parts()))
    point.save(path)
    state = model.state_dict()
    model = build_model(thresholds=path).eval()
    model.load_state_dict(state)
    assert model.policy.criterion == 'margin'
    expected = select_exits(all_logits, point.thresholds, 'margin',
                            temperature).exit_index.tolist()
    assert len(set(expected)) > 1
    for replay in (False, True):
        model.evaluate_all_exits = replay
        assert [s.exit_index for s in model.predict(IMAGES)] == expected
    # A checkpoint of the model carries it all.
    other = build_model()
    other.load_state_dict(model.state_dict())
    assert other.policy.criterion == 'margin'
    assert other.policy.temperature == temperature
    point.model['num_classes'] = 7
    point.save(path)
    with pytest.raises(ValueError, match='another model: its num_classes'):
        build_model(thresholds=path)


@pytest.mark.parametrize('changes, kind, message', [
    (dict(thresholds=[0.5, 0.5]), ValueError, 'need 3 thresholds'),
    (dict(thresholds=[0.5, 0.5, -1]), ValueError, 'exit 2 .*got -1'),
    (dict(thresholds=[float('nan'), 1, 1]), ValueError, 'got nan'),
    (dict(thresholds='nowhere.json'), FileNotFoundError, 'nowhere.json'),
    (dict(exit_index=4), ValueError, 'got 4'),
    (dict(exit_index=1, thresholds=[1, 1, 1]), ValueError, 'either'),
    (dict(neck=dict(type='GlobalAveragePooling')), ValueError, 'no neck'),
    (dict(data_preprocessor=dict(num_classes=7)), ValueError,
     'data_preprocessor.num_classes is 7 and model.head.num_classes is 5'),
])
def test_refuses(changes, kind, message):
    with pytest.raises(kind, match=message):
        build_model(**changes)


def test_refuses_small_images():
    with pytest.raises(ValueError, match='at least 32 pixels.*16x16'):
        build_model().eval().predict(torch.rand(1, 3, 16, 16))


def test_the_checkpoint_carries_thresholds(tmp_path):
    """As mmengine writes and reads it."""
    source = build_model(thresholds=[0.7, 0.8, 0.9])
    path = str(tmp_path / 'c.pth')
    torch.save(dict(state_dict=weights_to_cpu(get_state_dict(source))), path)
    model = build_model()
    load_checkpoint(model, path, strict=True)
    assert model.policy.thresholds == (0.7, 0.8, 0.9)
    # The config outranks the checkpoint.
    model = build_model(exit_index=0)
    load_checkpoint(model, path, strict=True)
    assert model.policy.thresholds[0] == 0
    # Without any, a checkpoint changes nothing.
    torch.save(dict(state_dict=get_state_dict(build_model())), path)
    model = build_model()
    load_checkpoint(model, path, strict=True)
    assert model.policy.thresholds is None


def test_thresholds_go_with_the_weights_that_they_belong_to():
    calibrated = build_model(thresholds=[0.7, 0.8, 0.9]).state_dict()
    data = dict(inputs=IMAGES, data_samples=samples())
    model = build_model()
    model.load_state_dict(calibrated)
    model.eval()(**data, mode='loss')
    assert model.policy.thresholds == (0.7, 0.8, 0.9)
    model.train()(**data, mode='loss')
    assert model.policy.thresholds is None
    model.load_state_dict(calibrated)
    model.load_state_dict(build_model().state_dict())
    assert model.policy.thresholds is None
    # Those of the config stay.
    model = build_model(thresholds=[0.1, 0.2, 0.3])
    model.load_state_dict(calibrated)
    model.train()(**data, mode='loss')
    assert model.policy.thresholds == (0.1, 0.2, 0.3)


@pytest.mark.parametrize('soft', [False, True])
def test_one_label_for_each_image(soft):
    several = [DataSample().set_gt_label([k, 0]) for k in range(6)]
    if soft:  # as mixup makes them
        for sample in several:
            sample.set_gt_score(torch.ones(5))
    with pytest.raises(InputError, match=r'one label, got \[0, 0\]'):
        build_model()(IMAGES, several, mode='loss')


@pytest.mark.parametrize('thresholds', [None, [0.7, 0.8, 0.9]])
def test_weight_average_keeps_thresholds(thresholds):
    model = build_model(thresholds=thresholds)
    average = ExponentialMovingAverage(model, update_buffers=True)
    for _ in range(3):
        average.update_parameters(model)
    restored = build_model()
    restored.load_state_dict(average.module.state_dict())
    expected = thresholds and tuple(thresholds)
    assert restored.policy.thresholds == expected


def test_features_are_one_vector_for_each_exit():
    """What MMPretrain's tools take, and what the head classifies."""
    model = build_model().eval()
    nested = model.backbone(IMAGES)
    for stage in ('backbone', 'neck', 'pre_logits'):
        feats = model.extract_feat(IMAGES, stage)
        assert len(feats) == len(model.backbone.out_indices) == 4
        for vector, parts in zip(feats, nested):
            assert torch.equal(vector, torch.cat(tuple(parts), 1))
    for logits, other in zip(model.head(feats), model.head(nested)):
        assert torch.equal(logits, other)
    with pytest.raises(ValueError, match="got 'neckk'"):
        model.extract_feat(IMAGES, 'neckk')
    # The trunk alone.
    assert len(build_model(head=None).extract_feat(IMAGES)) == 4


@pytest.mark.parametrize('stages', [(3, ), (1, 2, 3)])
def test_baselines_share_head_losses_and_policy(stages):
    model = build_model(
        backbone=dict(
            type='ConvBackbone',
            arch='resnet18',
            width=0.25,
            exit_stages=stages))
    assert model.policy.num_exits == len(stages)
    data = dict(inputs=IMAGES, data_samples=samples())
    losses = model.train()(**data, mode='loss')
    count = len(stages)
    assert {name
            for name in losses if name.startswith('loss')} == {
                *(f'loss_exit{k}' for k in range(count)),
                *(f'loss_distill{k}' for k in range(count - 1))
            }
    model.parse_losses(losses)[0].backward()
    assert all(p.grad is not None for p in model.parameters())
    found = model.eval()(**data, mode='predict')
    assert [s.exit_index for s in found] == [count - 1] * 6
    assert len(found[0].exit_macs) == count
    model.policy.set_thresholds((0., ) * (count - 1))
    found = model(**data, mode='predict')
    assert [s.exit_index for s in found] == [0] * 6
    assert found[0].macs == found[0].exit_macs[0]


def test_damaged_weights_are_refused_whoever_loads_them(tmp_path):
    """As the hosts' inferencers do, by mmengine's own function."""
    model = build_model()
    weights = model.state_dict()
    weights['backbone.net.latents'] = weights['backbone.net.latents'] / 0
    path = str(tmp_path / 'x.pth')
    torch.save(dict(state_dict=weights), path)
    with pytest.raises(ValueError, match="latents' holds NaN"):
        load_checkpoint(model, path)
    assert model.backbone.net.latents.isfinite().all()
