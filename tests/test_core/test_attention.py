# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What the attention blocks are made of."""
import pytest
import torch
from torch import nn

from mmdynperceiver.core.accelerate import recompute
from mmdynperceiver.core.accelerate.recompute import add_projection
from mmdynperceiver.core.attention import Attention


@pytest.mark.parametrize('heads', [1, 2])
@pytest.mark.parametrize('scale', [None, 0.3])
def test_attention(heads, scale):
    q, k, v = (torch.randn(2, n, 6).double() for n in (3, 5, 5))
    width = 6 // heads
    want = []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        products = q[..., part] @ k[..., part].mT
        weights = (products * (scale or width**-0.5)).softmax(-1)
        want.append(weights @ v[..., part])
    torch.testing.assert_close(
        Attention(heads, scale)(q, k, v), torch.cat(want, -1))


@pytest.mark.parametrize('many', [1, 10**9])
def test_add_projection(many, monkeypatch):
    monkeypatch.setattr(recompute, 'MANY', many)
    layer = nn.Linear(4, 6).double()
    x = torch.randn(2, 5, 4).double()
    tokens = torch.randn(2, 5, 6).double()
    # As tokens are views of a map that is stored channels first.
    strided = torch.randn(2, 6, 5).double().mT
    for given in (tokens, strided):
        before = given.clone()
        want = given + layer(x)
        with torch.no_grad():
            torch.testing.assert_close(add_projection(given, layer, x), want)
        assert torch.equal(given, before)


def test_add_projection_with_gradients(monkeypatch):
    monkeypatch.setattr(recompute, 'MANY', 1)
    layer = nn.Linear(4, 6)
    x = torch.randn(2, 5, 4, requires_grad=True)
    tokens = torch.randn(2, 5, 6, requires_grad=True)
    leaves = (tokens, x, layer.weight, layer.bias)
    got, want = (
        torch.autograd.grad(out.square().sum(), leaves)
        for out in (add_projection(tokens, layer, x), tokens + layer(x)))
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other)


def test_many_tokens_are_added_in_place(monkeypatch):
    """The large tensor of the product is not made."""
    monkeypatch.setattr(recompute, 'MANY', 1)
    layer = nn.Linear(4, 6)
    monkeypatch.setattr(nn.Linear, 'forward', None)
    with torch.no_grad():
        add_projection(torch.randn(2, 5, 6), layer, torch.randn(2, 5, 4))
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        with pytest.raises(TypeError):  # asks the layer
            add_projection(torch.randn(2, 5, 6), layer, torch.randn(2, 5, 4))
