# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""FrameExit: really leaving as replayed, and frames that nobody decodes."""
import math

import decord
import pytest
import torch
import torch.nn.functional as F
from mmaction.datasets.transforms import RawFrameDecode
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.dataset import Compose

from mmdynperceiver.core import (EarlyExitNet, ExitPolicy,
                                 prepare_for_inference, run_all_exits,
                                 run_early_exit, select_exits)
from mmdynperceiver.core.networks.frame_exit import FrameExit, frame_order
from mmdynperceiver.deploy.export import export_network
from mmdynperceiver.errors import InputError
from mmdynperceiver.recognition import LazyVideo

FRAMES = 4
VIDEOS = torch.randn(
    8, FRAMES, 3, 32, 32, generator=torch.Generator().manual_seed(0))
PIPELINE = [
    dict(type='DecordInit'),
    dict(type='SampleFrames', clip_len=1, num_clips=FRAMES, test_mode=True),
    dict(type='DecordDecode'),
    dict(type='Resize', scale=(32, 32), keep_ratio=False),
    dict(type='FormatShape', input_format='NCHW'),
    dict(type='PackActionInputs'),
]


def build(**head):
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='FrameExitRecognizer',
            backbone=dict(
                type='FrameExitBackbone',
                arch=dict(block='basic', depths=(1, 1, 1, 1), stem_stride=2),
                width=0.125,
                drop_path_rate=0.,
                num_frames=FRAMES,
                hidden=16),
            cls_head=dict(type='FrameExitHead', num_classes=5, **head),
            data_preprocessor=dict(
                type='ActionDataPreprocessor',
                mean=[127.5, 127.5, 127.5],
                std=[63.75, 63.75, 63.75],
                format_shape='NCHW')))
    return model


@pytest.fixture(scope='module')
def model():
    """Whose gates and classifiers do not agree on when to leave."""
    model = build()
    head = model.cls_head
    with torch.no_grad():
        for weight in head.exits.parameters():
            weight.mul_(4)
        for _ in range(10):
            model.loss(torch.randn(8, FRAMES, 3, 32, 32), samples())
        feats = model.eval().backbone(VIDEOS.flatten(0, 1))
        first, *gates = head.leaving_logits(head.exits(feats), feats)
        head.first_threshold = first.sigmoid().quantile(0.7).item()
        for gate, found in zip(head.gates, gates):
            gate.decide.bias -= found.quantile(0.6)
    return model


def samples():
    return [ActionDataSample().set_gt_label(k % 5) for k in range(8)]


def replayed(model, inputs):
    """What all exits and their gates say, one video after the other."""
    trunk, head = model.backbone.net, model.cls_head
    found = []
    for video in inputs:
        pooled, before = None, None
        for index, number in enumerate(trunk.order):
            now = trunk.embed(trunk.run_branch(video[None, number]))
            before = pooled
            pooled = now if pooled is None else torch.maximum(now, pooled)
            logits = head.exits.classifiers[index](pooled)
            if index in (0, FRAMES - 1):
                leaves = index or \
                    logits.softmax(1).max() >= head.first_threshold
            else:
                leaves = head.gates[index - 1](before, pooled) >= 0
            if leaves:
                break
        found.append((index, logits[0]))
    return zip(*found)


def test_the_order_is_the_published_one():
    assert frame_order(10) == [5, 0, 9, 2, 7, 4, 6, 3, 8, 1]
    for count in range(1, 20):
        assert sorted(frame_order(count)) == list(range(count))
    assert frame_order(8) == [4, 0, 7, 2, 6, 3, 5, 1]


@torch.no_grad()
def test_features_are_the_largest_so_far(model):
    trunk = model.backbone.net
    found = trunk(VIDEOS.flatten(0, 1))
    each = trunk.embed(trunk.run_branch(VIDEOS.flatten(0, 1)))
    each = each.unflatten(0, (8, FRAMES))
    state = trunk.initial_state(VIDEOS)
    for count, (one, ) in enumerate(found, 1):
        seen = each[:, frame_order(FRAMES)[:count]].amax(1)
        torch.testing.assert_close(one, seen)
        state, (other, ) = trunk.segment(count - 1, state)
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_gates_stop_in_batches_as_one_by_one(model):
    out, logits = model.run_exits(VIDEOS)
    assert logits is None and model.policy.thresholds is None
    exits, expected = replayed(model, VIDEOS)
    assert out.exit_index.tolist() == list(exits)
    assert len(set(exits)) >= 3
    torch.testing.assert_close(
        out.logits, torch.stack(expected), atol=1e-4, rtol=1e-4)
    model.evaluate_all_exits = True
    all_at_once, logits = model.run_exits(VIDEOS)
    model.evaluate_all_exits = False
    assert len(logits) == FRAMES
    for one, other in zip(out, all_at_once):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    # No frame is computed of a video that has left.
    seen = []
    trunk = model.backbone.net
    hook = trunk.stem.register_forward_hook(
        lambda _, inputs, __: seen.append(len(inputs[0])))
    model.run_exits(VIDEOS)
    hook.remove()
    wanted = [sum(one >= k for one in exits) for k in range(FRAMES)]
    assert seen == [count for count in wanted if count]


@torch.no_grad()
def test_the_core_runs_frames_of_videos_in_a_row(model):
    net = EarlyExitNet(model.backbone.net, 5).eval()
    net.exits.load_state_dict(model.cls_head.exits.state_dict())
    images = VIDEOS.flatten(0, 1)
    logits = net(images)
    thresholds = [
        x.softmax(1).amax(1).quantile(q).item()
        for x, q in zip(logits, (0.7, 0.55, 0.45))
    ]
    expected = select_exits(logits, thresholds)
    for parts in ((images, 1), (images, FRAMES), (VIDEOS, 1)):
        policy = ExitPolicy(FRAMES, thresholds)
        out = run_early_exit(*net.exit_parts(), policy, *parts)
        assert torch.equal(out.exit_index, expected.exit_index)
        all_logits = run_all_exits(*net.exit_parts(), *parts)
        torch.testing.assert_close(all_logits[-1], logits[-1])
    assert torch.equal(
        net.predict(images, thresholds).exit_index, expected.exit_index)


@torch.no_grad()
def test_thresholds_take_the_place_of_the_gates(model):
    model.evaluate_all_exits = True
    thresholds = [
        x.softmax(1).amax(1).quantile(q).item()
        for x, q in zip(model.run_exits(VIDEOS)[1], (0.7, 0.55, 0.45))
    ]
    model.policy.set_thresholds(thresholds)
    try:
        expected, _ = model.run_exits(VIDEOS)
        model.evaluate_all_exits = False
        for one in (model, prepare_for_inference(model, (32, 32))):
            out, _ = one.run_exits(VIDEOS)
            assert out.exit_index.tolist() == expected.exit_index.tolist()
            torch.testing.assert_close(
                out.logits, expected.logits, atol=1e-3, rtol=1e-3)
    finally:
        model.evaluate_all_exits = False
        model.policy.set_thresholds(None)
    assert len(set(expected.exit_index.tolist())) >= 3


def test_gates_learn_from_the_losses_by_hand():
    head = build().cls_head.eval()
    feats = [(torch.rand(8, 16), ) for _ in range(FRAMES)]
    target = torch.arange(8) % 5
    with torch.no_grad():
        logits = head.exits(feats)
        losses = [F.cross_entropy(x, target, reduction='none') for x in logits]
        # Whoever has seen two frames, or three.
        head.beta = losses[1].median().item() / math.exp(1)
        labels = [
            losses[k] <= head.beta * math.exp((k + 1) / 2) for k in (1, 2)
        ]
        assert 0 < labels[0].sum() < 8
        expected = 0.
        for k, may_leave in enumerate(labels, 1):
            found = head.gates[k - 1](feats[k - 1][0], feats[k][0])[:, 0]
            sure = torch.where(may_leave, found, -found).sigmoid()
            expected -= sure.log().mean() / 2
    found = head.loss(feats, samples())
    torch.testing.assert_close(found['loss_gate'].detach(), expected)
    total = sum(found[f'loss_exit{k}'] for k in range(FRAMES))
    torch.testing.assert_close(total.detach(),
                               sum(x.mean() for x in losses) / FRAMES)


def test_all_parts_learn_and_come_back():
    model = build().train()
    losses = model(VIDEOS, samples(), mode='loss')
    model.parse_losses(losses)[0].backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    again = build()
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(again.eval().run_exits(VIDEOS)[0].logits,
                                   model.eval().run_exits(VIDEOS)[0].logits)


def test_macs_by_hand(model):
    macs = model.macs_per_exit((FRAMES, 3, 32, 32))
    static = MODELS.build(
        dict(
            type='DynPerceiverRecognizer',
            backbone=dict(
                type='FrameExitBackbone',
                arch=dict(block='basic', depths=(1, 1, 1, 1), stem_stride=2),
                width=0.125,
                num_frames=1,
                hidden=16),
            cls_head=dict(type='DynPerceiverTSMHead', num_classes=5)))
    frame, = static.macs_per_exit((1, 3, 32, 32))
    gate = 2 * (16 * 128 + 128 * 64) + 128
    assert macs == (frame, 2 * frame + gate, 3 * frame + 2 * gate,
                    4 * frame + 2 * gate)


def count_decoded(monkeypatch):
    """How many frames decord, and the reader of frame folders, give."""
    found = []

    def get_batch(self, numbers, real=decord.VideoReader.get_batch):
        found.extend(list(numbers))
        return real(self, numbers)

    def transform(self, results, real=RawFrameDecode.transform):
        found.extend(list(results['frame_inds']))
        return real(self, results)

    monkeypatch.setattr(decord.VideoReader, 'get_batch', get_batch)
    monkeypatch.setattr(RawFrameDecode, 'transform', transform)
    return found


@pytest.mark.parametrize('kind', ['videos', 'frame_folders'])
def test_frames_that_are_not_needed_are_not_decoded(model, kind, monkeypatch,
                                                    request):
    folder = request.getfixturevalue(kind)
    pipeline, infos = PIPELINE, [
        dict(filename=str(folder / f'{k}.avi')) for k in range(6)
    ]
    if kind == 'frame_folders':
        pipeline = [PIPELINE[1], dict(type='RawFrameDecode'), *PIPELINE[3:]]
        infos = [
            dict(
                frame_dir=str(folder / str(k)),
                total_frames=10,
                start_index=1,
                filename_tmpl='{:05}.jpg') for k in range(6)
        ]
    run = Compose(pipeline)
    batch = [
        run(dict(modality='RGB', **{
            'start_index': 0,
            **info
        }))['inputs'] for info in infos
    ]
    data = model.data_preprocessor(
        dict(inputs=batch, data_samples=None), False)
    expected = model.predict(data['inputs'])
    decoded = count_decoded(monkeypatch)
    videos = [LazyVideo(pipeline, info) for info in infos]
    assert decoded == [] and len(videos[0]) == FRAMES
    found = model.predict_lazily(videos)
    assert len(decoded) == sum(1 + s.exit_index for s in expected)
    assert len(decoded) < 6 * FRAMES
    for one, other in zip(found, expected):
        assert one.exit_index == other.exit_index and one.macs == other.macs
        torch.testing.assert_close(one.pred_score, other.pred_score)


@pytest.mark.parametrize('steps, message', [
    ([0, 1, 3], 'DecordDecode, OpenCVDecode.*got DecordInit, SampleFrames'),
    ([0, 1, 2, 3], 'one image .* the shape'),
    ([0, 'long', 2, 3, 4, 5], 'clip_len=2'),
])
def test_refuses_other_pipelines(videos, steps, message):
    long = dict(PIPELINE[1], clip_len=2)
    pipeline = [long if k == 'long' else PIPELINE[k] for k in steps]
    with pytest.raises(InputError, match=message):
        LazyVideo(pipeline, dict(filename=str(videos / '0.avi'))).frame(0)


def test_refuses_what_does_not_fit(model, tmp_path):
    with pytest.raises(ValueError, match='4 images, one for each exit, got 8'):
        model.run_exits(VIDEOS.repeat(1, 2, 1, 1, 1))
    with pytest.raises(ValueError, match='beta must be at least 0, got -1'):
        build(beta=-1)
    with pytest.raises(ValueError, match='first_threshold.*got 2'):
        build(first_threshold=2)
    with pytest.raises(ValueError, match='num_frames.*got 0'):
        FrameExit('resnet18', num_frames=0)
    with pytest.raises(ValueError, match='30 images .* videos of 4 frames'):
        model.backbone.net(torch.zeros(30, 3, 32, 32))
    with pytest.raises(ValueError, match='one frame of a video after the oth'):
        export_network(*model.exit_parts(), tmp_path / 'out', {}, model.policy,
                       'abcde')
