# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Detectors run prepared, in bfloat16 and compiled, and detect the same.

Untrained networks amplify what bfloat16 rounds.
"""
import pytest
import torch
from tiny_detector import build_detector, make_batch, spread_gains

from mmdynperceiver.core import compile_segments
from mmdynperceiver.core.accelerate.compiled import in_mode
from mmdynperceiver.detection import DynPerceiverDetBackbone

SIZES = [(64, 64), (64, 96)]


@pytest.fixture(scope='module')
def model():
    """A detector whose images leave at all three exits."""
    torch.manual_seed(0)
    model = spread_gains(build_detector().eval(), 6)
    model.policy.set_thresholds((0.7, 0.5))
    return model


def walk(model, images):
    """Maps and logits of each exit, and where the images stop."""
    with torch.no_grad():
        steps = list(model._walk(images))
        maps, exit_index, _ = model._leave_early(images)
    return steps, maps, exit_index


@pytest.mark.parametrize('mode', ['prepared', 'prepared-bf16', 'compiled'])
def test_early_exit_detector(mode, model):
    if mode == 'compiled':
        fast = compile_segments(
            in_mode(model, 'prepared'), buckets=(6, ), backend='eager')
    else:
        fast = in_mode(model, mode, (64, 64))
    error = 0.3 if 'bf16' in mode else 1e-4
    exits = set()
    for size in SIZES:
        images = make_batch(model, number=6)['inputs']
        images = torch.nn.functional.interpolate(images, size)
        want, maps, exit_index = walk(model, images)
        got, fast_maps, fast_index = walk(fast, images)
        exits |= set(exit_index.tolist())
        for (one, logits), (other, expected) in zip(got, want, strict=True):
            assert logits.dtype == torch.float32
            if 'bf16' not in mode:
                torch.testing.assert_close(
                    logits, expected, atol=1e-3, rtol=1e-3)
            for level, value in other.items():
                assert one[level].dtype == torch.float32
                assert (one[level] - value).norm() <= error * value.norm()
        if 'bf16' not in mode:
            assert torch.equal(fast_index, exit_index)
            for level, value in maps.items():
                torch.testing.assert_close(
                    fast_maps[level], value, atol=1e-4, rtol=1e-3)
        data = make_batch(model, number=2)
        results = fast(**data, mode='predict')
        assert results[0].macs in model.macs_per_exit((3, 64, 64))
        assert fast.macs_per_exit((3, *size)) == model.macs_per_exit(
            (3, *size))
    assert exits == {0, 1, 2}


@pytest.mark.parametrize('branches', ['both', 'feature'])
def test_backbone(branches):
    torch.manual_seed(0)
    options = dict(num_latents=16) if branches == 'both' else {}
    backbone = DynPerceiverDetBackbone(
        'resnet18', branches=branches, width=0.25, **options).eval()
    modes = [in_mode(backbone, m) for m in ('prepared', 'prepared-bf16')]
    modes.append(compile_segments(backbone, (3, ), backend='eager'))
    seen = []
    run = modes[2].net.run_halves.run
    modes[2].net.run_halves.run = lambda *args: seen.append(1) or run(*args)
    for size in SIZES:
        images = torch.randn(3, 3, *size)
        with torch.no_grad():
            want = backbone(images)
            for fast, error in zip(modes, (1e-4, 0.3, 1e-4)):
                for one, other in zip(fast(images), want, strict=True):
                    assert one.dtype == other.dtype
                    assert one.shape == other.shape
                    assert (one - other).norm() <= error * other.norm()
    assert seen == [1, 1]
