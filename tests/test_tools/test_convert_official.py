# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The command line that converts published weights."""
import pytest
import torch
from test_core.reference import publish

from mmdynperceiver.core import DynPerceiver

NAME = 'model_converters/convert_official'


@pytest.fixture(scope='module')
def published(tmp_path_factory):
    """A published file of a small network."""
    torch.manual_seed(0)
    net = DynPerceiver('resnet18', 5, width=0.25, num_latents=16)
    path = tmp_path_factory.mktemp('published') / 'small.pth'
    torch.save({'model': publish(net.state_dict(), 'resnet')}, path)
    return path


def test_converts_and_says_how_to_use_it(tool, published, tmp_path):
    out = tmp_path / 'new folder' / 'small.pth'
    output, error = tool(NAME, published, out)
    assert error is None, output
    assert 'resnet18, width 0.25, 16 latents, 5 classes' in output
    assert 'config: none is this variant' in output
    assert "arch='resnet18'" in output and 'num_classes=5' in output
    assert 'largest difference of logits' in output
    weights = torch.load(out, weights_only=True)['state_dict']
    assert 'backbone.net.latents' in weights

    before = out.read_bytes()
    output, error = tool(NAME, published, out)
    assert error == 2 and '--overwrite' in output
    output, error = tool(NAME, published, out, '--overwrite')
    assert error is None
    assert out.stat().st_size == pytest.approx(len(before), rel=0.01)


def test_refuses_in_one_line_and_writes_nothing(tool, published, tmp_path):
    damaged = tmp_path / 'damaged.pth'
    damaged.write_bytes(published.read_bytes()[:5000])
    content = torch.load(published, weights_only=True)['model']
    strange = tmp_path / 'strange.pth'
    torch.save({'model': {**content, 'gate.weight': torch.ones(1)}}, strange)
    out = tmp_path / 'out.pth'
    for arguments, message in (
        ((tmp_path / 'nothing.pth', out), 'no checkpoint file'),
        ((damaged, out), 'truncated or damaged'),
        ((strange, out), "unexpected: 'gate.weight'"),
        ((published, tmp_path / 'out.onnx'), 'must end with .pth'),
        ((published, published, '--overwrite'), 'give it another name'),
        ((published, out, '--weights', 'model_ema'), "'model_ema'"),
    ):
        output, error = tool(NAME, *arguments)
        assert error == 2, output
        lines = [x for x in output.splitlines() if x.startswith('error: ')]
        assert len(lines) == 1 and message in lines[0], output
        assert not out.exists()
