# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Large batches in pieces give what whole ones give."""
import pytest
import torch

from mmdynperceiver.core import (ConvTrunk, DynPerceiver, Trunk,
                                 prepare_for_inference)
from mmdynperceiver.core.accelerate import micro_batches as micro_batches

SMALL = dict(arch='resnet18', width=0.25, num_latents=8, num_classes=5)


@pytest.fixture
def net():
    """A small network."""
    torch.manual_seed(0)
    return DynPerceiver(**SMALL).eval()


def record(trunk):
    """Note the segment and the batch of each run."""
    run, seen = trunk.run_segment, []

    def spy(index, state):
        seen.append((index, len(state.x)))
        return run(index, state)

    trunk.run_segment = spy
    return seen


def block_of(images, trunk):
    """Bytes of the largest tensor of segment 0 for so many images."""
    found = micro_batches.measure_micro_batches(trunk, (64, 64))
    return images * 3 * 64 * 64 * 4 * found.growth[0]


def test_largest_tensors():
    trunk = Trunk('resnet18', width=0.25, num_latents=8).eval()
    found = micro_batches.measure_micro_batches(trunk, (64, 64))
    # 16 channels of 32x32 behind the stem's convolution, of 3 of 64x64.
    assert found.growth[0] == 16 * 32**2 / (3 * 64**2)
    assert len(found.growth) == 4 and min(found.growth) >= 1
    larger = micro_batches.measure_micro_batches(trunk, (96, 96))
    assert larger.growth[0] == found.growth[0]


def test_batch_in_pieces(net, monkeypatch):
    fast = prepare_for_inference(net, (64, 64))
    images = torch.randn(7, 3, 64, 64)
    with torch.no_grad():
        whole = fast(images)
        seen = record(fast.trunk)
        fast(images)
        assert seen == [(k, 7) for k in range(4)]
        # Room for three images of segment 0: pieces of two.
        monkeypatch.setattr(micro_batches, 'LARGEST_BLOCK',
                            block_of(3, net.trunk))
        seen.clear()
        for got, want in zip(fast(images), whole, strict=True):
            torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
        assert [n for k, n in seen if k == 0] == [2, 2, 2, 1]
        # The last segment starts with the smallest maps.
        assert [n for k, n in seen if k == 3] == [7]
        conf = fast(images)[0].softmax(1).amax(1).sort().values
        thresholds = ((conf[2] + conf[3]).item() / 2, 0.3, 0.3)
        out, want = (
            model.predict(images, thresholds) for model in (fast, net))
    assert torch.equal(out.exit_index, want.exit_index)
    torch.testing.assert_close(out.logits, want.logits, atol=1e-4, rtol=1e-4)


def test_no_room_for_one(net, monkeypatch):
    fast = prepare_for_inference(net, (64, 64))
    monkeypatch.setattr(micro_batches, 'LARGEST_BLOCK', 1)
    seen = record(fast.trunk)
    with torch.no_grad():
        fast(torch.randn(3, 3, 64, 64))
    assert seen == [(k, 1) for k in range(4) for _ in range(3)]


def test_clips_stay_together(monkeypatch):
    trunk = Trunk('resnet18', width=0.25, num_latents=8).eval()
    trunk.frames_per_clip = 4
    fast = prepare_for_inference(trunk, (64, 64))
    seen = record(fast)
    monkeypatch.setattr(micro_batches, 'LARGEST_BLOCK', block_of(3, trunk))
    with torch.no_grad():
        fast(torch.randn(12, 3, 64, 64))
    assert [n for k, n in seen if k == 0] == [4, 4, 4]
    monkeypatch.setattr(micro_batches, 'LARGEST_BLOCK', block_of(11, trunk))
    seen.clear()
    with torch.no_grad():
        fast(torch.randn(12, 3, 64, 64))
    assert [n for k, n in seen if k == 0] == [8, 4]


def test_without_latents(monkeypatch):
    trunk = ConvTrunk('resnet18', width=0.25).eval()
    fast = prepare_for_inference(trunk, (64, 64))
    seen = record(fast)
    monkeypatch.setattr(micro_batches, 'LARGEST_BLOCK', block_of(2, trunk))
    images = torch.randn(5, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(fast(images), trunk(images))
    assert [n for _, n in seen] == [2, 2, 1]


def test_models_as_they_are_run_whole(net, monkeypatch):
    monkeypatch.setattr(micro_batches, 'LARGEST_BLOCK', 1)
    seen = record(net.trunk)
    with torch.no_grad():
        net(torch.randn(3, 3, 64, 64))
    assert seen == [(k, 3) for k in range(4)]
