# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Clips stay whole in every way to run a recognizer."""
import pytest
import torch
from mmaction.registry import MODELS

import mmdynperceiver.recognition  # noqa: F401
from mmdynperceiver.core import compile_segments
from mmdynperceiver.core.accelerate import micro_batches as micro_batches
from mmdynperceiver.core.accelerate.compiled import in_mode

# Frames of a clip that no power of two divides.
FRAMES = 12


@pytest.fixture(scope='module')
def model():
    """A recognizer that shifts between the frames of a clip."""
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='DynPerceiverRecognizer',
            backbone=dict(
                type='DynPerceiverTSM',
                arch='resnet18',
                width=0.25,
                num_latents=8,
                depth_factor=(0, 0, 1 / 9, 1 / 3),
                num_segments=FRAMES,
                shift_div=4),
            cls_head=dict(type='DynPerceiverTSMHead', num_classes=5)))
    for name, parameter in model.named_parameters():
        if name.endswith('bn2.0.weight'):
            torch.nn.init.ones_(parameter)
    return model.eval()


def scores(model, videos):
    with torch.no_grad():
        return [(s.exit_index, s.pred_score) for s in model.predict(videos)]


def test_compiled(model, monkeypatch):
    videos = torch.randn(
        3, FRAMES, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 3
    fast = in_mode(model, 'compiled', (32, 32))
    sizes = fast.backbone.net.run_segment.buckets
    assert sizes[:3] == [FRAMES, 2 * FRAMES, 4 * FRAMES]
    fast = compile_segments(fast, backend='eager')
    run, seen = fast.backbone.net.run_segment.run, set()
    monkeypatch.setattr(
        fast.backbone.net.run_segment, 'run', lambda index, state:
        (seen.add(len(state.x)), run(index, state))[1])
    conf = sorted(score.max()
                  for _, score in scores(_fixed(model, (0, 2, 2)), videos))
    for one in (model, fast):
        one.policy.set_thresholds(((conf[1] + conf[2]).item() / 2, 2, 2))
    want, got = scores(model, videos), scores(fast, videos)
    assert sorted(index for index, _ in want) == [0, 3, 3]
    for (exit_index, score), (other, expected) in zip(got, want):
        assert exit_index == other
        torch.testing.assert_close(score, expected, atol=1e-4, rtol=1e-3)
    # Three clips are padded to four; two go on.
    assert seen == {4 * FRAMES, 2 * FRAMES}


def _fixed(model, thresholds):
    model.policy.set_thresholds(thresholds)
    return model


def test_prepared_in_pieces(model, monkeypatch):
    videos = torch.randn(4, FRAMES, 3, 32, 32) * 3
    _fixed(model, (2, 2, 2))
    fast = in_mode(model, 'prepared', (32, 32))
    want = scores(model, videos)
    for block in (1, 10**5, 10**6):
        monkeypatch.setattr(micro_batches, 'LARGEST_BLOCK', block)
        for (_, score), (_, expected) in zip(scores(fast, videos), want):
            torch.testing.assert_close(score, expected, atol=1e-4, rtol=1e-3)


def test_refuses_buckets_that_split_clips(model):
    with pytest.raises(
            ValueError, match=r'multiples of the 12 frames .* got \(12, 16\)'):
        compile_segments(model, buckets=(12, 16))
    compile_segments(model, buckets=(12, 24))
