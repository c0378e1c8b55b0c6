# Copyright (c) mmdynperceiver contributors. All rights reserved.
import copy
import json

import pytest
import torch
from mmaction.evaluation import AccMetric
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample

import mmdynperceiver.recognition  # noqa: F401
from mmdynperceiver.core import exit_losses, macs_per_exit, select_exits
from mmdynperceiver.core.early_exit import average_groups
from mmdynperceiver.errors import InputError
from mmdynperceiver.hosts.metrics import EarlyExitMetric

FRAMES, CROPS, CLIPS = 4, 3, 2
# Five videos of 2 clips x 3 crops x 4 frames.
VIDEOS = torch.randn(
    5,
    FRAMES * CROPS * CLIPS,
    3,
    32,
    32,
    generator=torch.Generator().manual_seed(0)) * 3


def config(**changes):
    found = dict(
        type='DynPerceiverRecognizer',
        backbone=dict(
            type='DynPerceiverTSM',
            arch='resnet18',
            width=0.25,
            num_latents=16,
            depth_factor=(0, 0, 1 / 9, 1 / 3),
            num_segments=FRAMES,
            shift_div=4),
        cls_head=dict(type='DynPerceiverTSMHead', num_classes=5))
    found.update(copy.deepcopy(changes))
    return found


def build(**changes):
    model = MODELS.build(config(**changes))
    # Residual branches start at 0 and would hide the shift.
    for name, parameter in model.named_parameters():
        if name.endswith('bn2.0.weight'):
            torch.nn.init.ones_(parameter)
    return model


def samples(count=len(VIDEOS)):
    return [ActionDataSample().set_gt_label(i % 5) for i in range(count)]


def all_logits(model):
    with torch.no_grad():
        return model(VIDEOS, stage='head')


def mixed_thresholds(model):
    """Thresholds at which every exit takes some of ``VIDEOS``."""
    left = torch.ones(len(VIDEOS), dtype=torch.bool)
    thresholds = []
    for logits, take in zip(all_logits(model)[:3], (2, 1, 1)):
        conf = logits.softmax(1).amax(1)
        highest = conf[left].sort().values
        thresholds.append(highest[-take - 1:][:2].mean().item())
        left &= conf < thresholds[-1]
    return thresholds


def test_head_follows_from_the_backbone():
    given = config()
    before = copy.deepcopy(given)
    model = MODELS.build(given)
    assert given == before
    assert model.cls_head.in_channels == model.backbone.net.exit_channels
    assert model.cls_head.exits.classifiers[2][0].p == 0.2
    other = build(
        cls_head=dict(type='DynPerceiverTSMHead', num_classes=5, dropout=0.5))
    assert other.cls_head.exits.classifiers[2][0].p == 0.5


def test_logits_are_averaged_over_the_images_of_a_video():
    model = build().eval()
    with torch.no_grad():
        rows = model.cls_head.exits(model.backbone(VIDEOS.flatten(0, 1)))
    for logits, of_images in zip(all_logits(model), rows):
        expected = of_images.reshape(5, -1, 5).mean(1)
        torch.testing.assert_close(logits, expected)


def test_every_clip_and_crop_is_shifted_alone():
    """All images of a video: clips in a row, each shifted by itself."""
    model = build().eval()
    with torch.no_grad():
        whole = model.backbone(VIDEOS[0])[2][0]
        for start in range(0, VIDEOS.shape[1], FRAMES):
            part = model.backbone(VIDEOS[0, start:start + FRAMES])[2][0]
            torch.testing.assert_close(
                whole[start:start + FRAMES], part, atol=1e-5, rtol=1e-4)


def test_losses_are_those_of_the_core():
    model = build().eval()  # without dropout and batch statistics
    clips, targets = VIDEOS[:, :FRAMES], torch.arange(5)
    losses = model(clips, samples(), mode='loss')
    with torch.no_grad():
        logits = model(clips, stage='head')
    expected = exit_losses(logits, targets, torch.nn.functional.cross_entropy,
                           model.cls_head.loss_weights)
    assert set(losses) == set(expected)
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value.item(), rel=1e-4)


def test_soft_targets_and_label_smoothing():
    smooth = build(
        cls_head=dict(
            type='DynPerceiverTSMHead', num_classes=5, label_smooth_eps=0.1))
    logits = [torch.randn(2, 5) for _ in range(4)]
    hard = [ActionDataSample().set_gt_label(k) for k in (3, 1)]
    soft = [
        ActionDataSample().set_gt_label(0.9 * torch.eye(5)[k] +
                                        0.02 * torch.ones(5)) for k in (3, 1)
    ]
    losses = smooth.cls_head.loss_by_feat(logits, hard)
    expected = build().cls_head.loss_by_feat(logits, soft)
    assert losses['loss_exit3'].item() == pytest.approx(
        expected['loss_exit3'].item())
    assert 'acc_exit0' not in expected


def test_every_parameter_gets_a_gradient():
    model = build().train()
    total, _ = model.parse_losses(
        model(VIDEOS[:, :FRAMES], samples(), mode='loss'))
    total.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_stopping_equals_the_replay():
    """Several videos of several crops and clips, which leave everywhere."""
    model = build().eval()
    thresholds = mixed_thresholds(model)
    expected = select_exits(all_logits(model), thresholds)
    assert set(expected.exit_index.tolist()) == {0, 1, 2, 3}
    model.policy.set_thresholds(thresholds)
    macs = macs_per_exit(model.backbone.net, model.cls_head.exits,
                         VIDEOS.shape[1:])
    with torch.no_grad():
        stopped = model.predict(VIDEOS, samples())
        model.evaluate_all_exits = True
        replayed = model.predict(VIDEOS)
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
        assert ours.gt_label.item() == row
        assert 'exit_logits' not in ours
        assert other.exit_logits.shape == (4, 5)


def test_patience_remembers_videos_not_images():
    """The policy's memory has a row for each video."""
    model = build().eval()
    model.policy.criterion = 'patience'
    model.policy.set_thresholds((2, 0.5, 0.5))
    expected = select_exits(
        all_logits(model), model.policy.thresholds, 'patience')
    with torch.no_grad():
        found = [s.exit_index for s in model.predict(VIDEOS)]
    assert found == expected.exit_index.tolist()


def test_really_stops(monkeypatch):
    """A video that has left costs nothing deeper, with all its images."""
    model = build().eval()
    model.policy.set_thresholds(mixed_thresholds(model))
    left = [0] * 4
    for sample in model.predict(VIDEOS):
        left[sample.exit_index] += 1
    run = []
    segment = model.backbone.net.segment
    monkeypatch.setattr(
        model.backbone.net, 'segment', lambda index, state:
        (run.append(len(state.x)), segment(index, state))[1])
    model.predict(VIDEOS)
    images = VIDEOS.shape[1]
    assert run == [images * sum(left[k:]) for k in range(4)]


def test_macs_are_those_of_all_images():
    model = build()
    one = macs_per_exit(
        build(
            backbone=dict(config()['backbone'], is_shift=False)).backbone.net,
        model.cls_head.exits, (3, 32, 32))
    found = model.macs_per_exit(VIDEOS.shape[1:])
    assert found == tuple(24 * macs for macs in one)


@torch.no_grad()
def test_metrics_of_both_packages():
    model = build().eval()
    model.evaluate_all_exits = True
    found = [s.to_dict() for s in model.predict(VIDEOS, samples())]
    ours, host = EarlyExitMetric(topk=(1, 5)), AccMetric()
    for metric in (ours, host):
        metric.process(None, found)
    metrics = ours.compute_metrics(ours.results)
    expected = host.compute_metrics(host.results)
    assert metrics['dynamic/top1'] == pytest.approx(100 * expected['top1'])
    assert metrics['exit3/top1'] == metrics['dynamic/top1']
    assert metrics['dynamic/macs'] == model.macs_per_exit(VIDEOS.shape[1:])[3]


def test_one_frame_of_one_video_trains():
    model = build(backbone=dict(config()['backbone'], is_shift=False))
    model.backbone.num_segments = 1
    losses = model.train()(VIDEOS[:1, :1], samples(1), mode='loss')
    total = model.parse_losses(losses)[0]
    total.backward()
    assert total.isfinite()
    assert all(p.grad is not None for p in model.parameters())


def test_fixed_exit_and_thresholds_file(tmp_path):
    model = build(exit_index=1).eval()
    assert {s.exit_index for s in model.predict(VIDEOS)} == {1}
    path = tmp_path / 't.json'
    path.write_text(json.dumps(dict(thresholds=[0.9, 0.8, 0.7])))
    assert build(thresholds=str(path)).policy.thresholds == (0.9, 0.8, 0.7)


def test_thresholds_go_with_the_weights_that_they_belong_to():
    calibrated = build(thresholds=[0.7, 0.8, 0.9]).state_dict()
    model = build()
    model.load_state_dict(calibrated)
    model.load_state_dict(build().state_dict())
    assert model.policy.thresholds is None
    model.load_state_dict(calibrated)
    model.train()(VIDEOS[:, :FRAMES], samples(), mode='loss')
    assert model.policy.thresholds is None


@pytest.mark.parametrize('label', [[0, 2], torch.eye(5)[:2].sum(0)])
def test_one_label_for_each_video(label):
    """Lists of classes, and vectors of ones as multi_class data give them."""
    logits = [torch.randn(2, 5) for _ in range(4)]
    targets = [ActionDataSample().set_gt_label(label) for _ in range(2)]
    with pytest.raises(InputError, match='must have one label, got .*multi-'):
        build().cls_head.loss_by_feat(logits, targets)


def test_refuses_another_number_of_classes():
    weights = build(
        cls_head=dict(type='DynPerceiverTSMHead', num_classes=7)).state_dict()
    with pytest.raises(
            ValueError,
            match='7 classes and the model has 5.*'
            'cls_head.num_classes=7'):
        build().load_state_dict(weights)


@pytest.mark.parametrize('shape, message', [
    ((1, 6, 3, 32, 32), '6 images .* clips of 4 frames: set num_clips=4'),
    ((4, 3, 32, 32), r'shape \(B, M, 3, H, W\), got \(4, 3, 32, 32\)'),
])
@pytest.mark.parametrize('mode', ['loss', 'predict', 'tensor'])
def test_refuses_incomplete_clips(shape, message, mode):
    with pytest.raises(ValueError, match=message):
        build().eval()(torch.rand(shape), samples(1), mode=mode)


def test_average_refuses_incomplete_groups():
    with pytest.raises(ValueError, match='7 images do not make up .* 2 '):
        average_groups(torch.rand(7, 3), 2)


@pytest.mark.parametrize('changes, message', [
    (dict(neck=dict(type='TPN')), 'no neck'),
    (dict(test_cfg=dict(max_testing_views=4)), 'max_testing_views'),
])
def test_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        build(**changes)
