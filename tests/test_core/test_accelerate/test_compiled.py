# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Compiled segments meet few batch sizes and change no result."""
import os
import shutil

import pytest
import torch
from torch import nn

from mmdynperceiver.core import DynPerceiver, compile_segments
from mmdynperceiver.core.accelerate.compiled import in_mode


@pytest.fixture
def net():
    """A tiny network."""
    return DynPerceiver(
        'resnet18',
        width=0.25,
        num_latents=8,
        num_classes=5,
        depth_factor=(0, 0, 1 / 9, 1 / 3)).eval()


def record_batches(compiled):
    """Note the segment and the batch of each call of a compiled graph."""
    segments, seen = compiled.trunk.run_segment, []
    run = segments.run

    def spy(index, state):
        seen.append((index, *{len(t) for t in state if t is not None}))
        return run(index, state)

    segments.run = spy
    return seen


def test_pads_to_buckets(net):
    compiled = compile_segments(net, buckets=(4, 2), backend='eager')
    seen = record_batches(compiled)
    images = torch.randn(5, 3, 32, 32)
    with torch.no_grad():
        for size, bucket in ((1, 2), (2, 2), (3, 4), (5, 5)):
            seen.clear()
            for got, want in zip(
                    compiled(images[:size]), net(images[:size]), strict=True):
                torch.testing.assert_close(got, want)
            assert seen == [(k, bucket) for k in range(4)]


def test_empty_batch(net):
    compiled = compile_segments(net, backend='eager')
    out = compiled.predict(torch.empty(0, 3, 32, 32), (0.5, 0.5, 0.5))
    assert out.logits.shape == (0, 5) and out.exit_index.shape == (0, )


def test_early_exit(net):
    compiled = compile_segments(net, buckets=(1, 4, 8), backend='eager')
    seen = record_batches(compiled)
    images = torch.randn(8, 3, 32, 32)
    with torch.no_grad():
        conf = net(images)[0].softmax(1).amax(1).sort().values
    # All but three go on, in a batch of eight; then all but seven, alone.
    for leave, later in ((3, 8), (7, 1)):
        thresholds = ((conf[7 - leave] + conf[8 - leave]).item() / 2, 2, 2)
        seen.clear()
        one, other = (
            model.predict(images, thresholds) for model in (net, compiled))
        assert (one.exit_index == 0).sum() == leave
        assert torch.equal(one.exit_index, other.exit_index)
        torch.testing.assert_close(one.logits, other.logits)
        assert [batch for _, batch in seen] == [8, later, later, later]


def test_modes(net):
    images = torch.randn(2, 3, 32, 32)
    assert in_mode(net, 'eager') is net
    prepared = in_mode(net, 'prepared', (32, 32))
    compiled = in_mode(net, 'compiled', (32, 32))
    assert 'run_segment' in vars(compiled.trunk)
    assert 'run_segment' not in vars(prepared.trunk)
    with torch.no_grad():
        for got, want in zip(prepared(images), net(images), strict=True):
            torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="got 'fast'"):
        in_mode(net, 'fast')


@pytest.mark.skipif(
    not shutil.which(os.environ.get('CXX', 'c++')),
    reason='there is no C++ compiler')
def test_inductor():
    """As compiled networks really run: with a generated kernel."""
    trunk = dict(width=0.125, num_latents=8, exits='last')
    net = DynPerceiver(
        dict(block='basic', depths=(1, 1, 1, 1)),
        num_classes=3,
        depth_factor=(0, 0, 0, 1 / 3),
        **trunk).eval()
    images = torch.randn(3, 3, 64, 64)
    compiled = in_mode(net, 'compiled', (64, 64))
    with torch.no_grad():
        for got, want in zip(compiled(images), net(images), strict=True):
            torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)
    run = compiled.trunk.run_segment
    assert run.backend == 'inductor' and run._compiled is not None


def test_refuses(net):
    with pytest.raises(ValueError, match=r'buckets must be .* got \(0, 2\)'):
        compile_segments(net, buckets=(0, 2))
    with pytest.raises(ValueError, match='no trunk in Linear'):
        compile_segments(nn.Linear(2, 2).eval())
    with pytest.raises(RuntimeError, match='call eval'):
        compile_segments(net.train())
