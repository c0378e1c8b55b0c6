# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Linear layers that compute their input again for the backward pass."""
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmdynperceiver.core import DynPerceiver
from mmdynperceiver.core.accelerate import recompute
from mmdynperceiver.core.accelerate.fast_blocks import FastMLP
from mmdynperceiver.core.accelerate.recompute import (linear_of_gelu,
                                                      linear_of_norm)


@pytest.fixture
def always(monkeypatch):
    """Whatever the size of the input."""
    monkeypatch.setattr(recompute, '_RECOMPUTE_FROM', 0)


def _layers():
    torch.manual_seed(0)
    norm, linear = nn.LayerNorm(6).double(), nn.Linear(6, 4).double()
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    return norm, linear


def _kept(net, x):
    """Bytes that a graph keeps, without weights, and what it returns."""
    weights = {p.untyped_storage().data_ptr() for p in net.parameters()}
    kept = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        out = net(x)
    return sum(kept.values()), out


@pytest.mark.parametrize('kind', ['norm', 'gelu'])
@pytest.mark.parametrize('frozen', [
    (),
    ('x', ),
    ('weight', 'bias'),
    ('weight', 'scale'),
    ('x', 'scale', 'shift'),
])
@pytest.mark.parametrize('bias', [True, False])
def test_same_results_and_gradients(kind, frozen, bias, always):
    norm, linear = _layers()
    if not bias:
        linear.bias = None
    x = torch.randn(2, 5, 6, dtype=torch.double, requires_grad=True)
    leaves = dict(x=x, weight=linear.weight, bias=linear.bias)
    if kind == 'norm':
        leaves.update(scale=norm.weight, shift=norm.bias)
    leaves = {k: v for k, v in leaves.items() if v is not None}
    for name in frozen:
        if name in leaves:
            leaves.pop(name).requires_grad_(False)
    got = linear_of_norm(linear, norm, x) if kind == 'norm' else \
        linear_of_gelu(linear, x)
    want = linear(norm(x) if kind == 'norm' else F.gelu(x))
    assert type(got.grad_fn) is not type(want.grad_fn)
    torch.testing.assert_close(got, want)
    # Not contiguous, as of a mean over the tokens.
    weights = torch.randn(2, 1, 4, dtype=torch.double).expand(-1, 5, -1)
    for one, other in zip(
            torch.autograd.grad(got, leaves.values(), weights),
            torch.autograd.grad(want, leaves.values(), weights),
            strict=True):
        torch.testing.assert_close(one, other)


def test_keeps_a_perceptron_without_two_of_its_maps(always, monkeypatch):
    mlp = FastMLP(32, 32)
    x = torch.randn(2, 50, 32).requires_grad_() * 1
    size = x.numel() * x.element_size()
    less, out = _kept(mlp, x)
    monkeypatch.setattr(recompute, '_RECOMPUTE_FROM', x.numel() + 1)
    plain, other = _kept(mlp, x)
    torch.testing.assert_close(out, other)
    assert plain - less == 2 * size


def test_network_has_the_same_gradients(always, monkeypatch):
    torch.manual_seed(0)
    net = DynPerceiver(
        'resnet18',
        width=0.25,
        num_latents=8,
        num_classes=3,
        dropout=0,
        drop_path_rate=0).double()
    images = torch.randn(3, 3, 64, 64, dtype=torch.double)
    grads = []
    for least in (0, 2**40):
        monkeypatch.setattr(recompute, '_RECOMPUTE_FROM', least)
        kept, logits = _kept(net, images)
        loss = sum(F.cross_entropy(t, torch.arange(3)) for t in logits)
        grads.append((kept, loss, torch.autograd.grad(loss, net.parameters())))
    (less, loss, got), (plain, same_loss, want) = grads
    assert less < plain
    torch.testing.assert_close(loss, same_loss)
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize(
    'why', ['eval', 'no_grad', 'hook', 'class', 'norm', 'backward', 'shape'])
def test_runs_the_layers_themselves(why, always, monkeypatch):
    norm, linear = _layers()
    x = torch.randn(2, 5, 6, dtype=torch.double)
    calls = []
    if why == 'class':
        linear.__class__ = type('Wrapped', (nn.Linear, ), {})
    elif why == 'norm':
        norm.register_forward_hook(lambda *args: calls.append('norm'))
    elif why == 'backward':
        linear.register_full_backward_pre_hook(lambda *args: None)
    elif why == 'shape':
        norm = nn.LayerNorm((5, 6)).double()
    elif why == 'hook':
        linear.register_forward_pre_hook(lambda *args: calls.append('linear'))
    linear.train(why != 'eval')
    with torch.set_grad_enabled(why != 'no_grad'):
        out = linear_of_norm(linear, norm, x)
    assert 'LinearOf' not in type(out.grad_fn).__name__
    torch.testing.assert_close(out,
                               F.linear(norm(x), linear.weight, linear.bias))
    if why in ('hook', 'norm'):
        assert calls[0] == ('linear' if why == 'hook' else 'norm')


def test_mixed_precision_is_left_to_autocast(always):
    mlp = FastMLP(8, 8)
    x = torch.randn(2, 5, 8, requires_grad=True)
    with torch.autocast('cpu', torch.bfloat16):
        out = mlp(x)
    out.float().sum().backward()
    assert all(p.grad is not None for p in (x, *mlp.parameters()))


@pytest.mark.parametrize('use_reentrant', [True, False])
def test_checkpoints(use_reentrant, always):
    mlp = FastMLP(6, 6).double()
    x = torch.randn(2, 5, 6, dtype=torch.double, requires_grad=True)
    leaves = (x, *mlp.parameters())
    grads = []
    for run in (mlp,
                lambda x: checkpoint(mlp, x, use_reentrant=use_reentrant)):
        run(x).square().sum().backward()
        grads.append([leaf.grad for leaf in leaves])
        for leaf in leaves:
            leaf.grad = None
    torch.testing.assert_close(*grads)


def test_second_derivatives(always):
    norm, linear = _layers()
    x = torch.randn(2, 3, 6, dtype=torch.double, requires_grad=True)

    def run(x, scale, shift, weight, bias):
        out = recompute._LinearOfNorm.apply(x, scale, shift, norm.eps, weight,
                                            bias)
        return recompute._LinearOfGelu.apply(out, weight[:, :4], bias)

    leaves = (x, norm.weight, norm.bias, linear.weight, linear.bias)
    assert torch.autograd.gradcheck(run, leaves)
    assert torch.autograd.gradgradcheck(run, leaves)


def test_transforms_of_functions(always, monkeypatch):
    """Gradients of each sample, and derivatives along a direction."""
    mlp = FastMLP(6, 6).double()
    x = torch.randn(3, 5, 6, dtype=torch.double)
    weights = dict(mlp.named_parameters())

    def loss(weights, x):
        return torch.func.functional_call(mlp, weights, x[None]).square().sum()

    grads = torch.func.vmap(
        torch.func.grad(loss), in_dims=(None, 0))(weights, x)
    for row, sample in enumerate(x):
        want = torch.autograd.grad(loss(weights, sample), weights.values())
        for name, value in zip(weights, want, strict=True):
            torch.testing.assert_close(grads[name][row], value)
    _, tangent = torch.func.jvp(mlp, (x, ), (torch.ones_like(x), ))
    torch.testing.assert_close(
        tangent, (mlp(x + 1e-6) - mlp(x - 1e-6)) / 2e-6, atol=1e-5, rtol=1e-5)
    monkeypatch.setattr(recompute, 'MANY', 1)
    with torch.no_grad():
        torch.testing.assert_close(
            torch.func.vmap(mlp)(x[:, None])[:, 0], mlp(x))


def test_compiles_in_one_graph(always):
    mlp = FastMLP(6, 6)
    x = torch.randn(2, 5, 6)
    whole = torch.compile(mlp, backend='eager', fullgraph=True)
    torch.testing.assert_close(whole(x), mlp(x))
