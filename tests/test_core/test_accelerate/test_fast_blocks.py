# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Fast blocks stand where plain ones stood, and compute the same."""
import copy
import pickle

import torch

from mmdynperceiver.core import DynPerceiver, Trunk
from mmdynperceiver.core.accelerate import recompute
from mmdynperceiver.core.accelerate.fast_blocks import (FastCrossAttention,
                                                        FastMLP,
                                                        FastSelfAttentionBlock,
                                                        FastX2Z,
                                                        use_fast_blocks)
from mmdynperceiver.core.attention import MLP, X2Z

SMALL = dict(arch='resnet18', width=0.25, num_latents=8, drop_path_rate=0.)
FAST = (FastCrossAttention, FastMLP, FastSelfAttentionBlock, FastX2Z)


def test_networks_have_them_and_trunks_alone_do_not():
    assert set(FAST) <= {type(m) for m in DynPerceiver(**SMALL).modules()}
    assert not any(isinstance(m, FAST) for m in Trunk(**SMALL).modules())


def test_same_results_gradients_and_names(monkeypatch):
    monkeypatch.setattr(recompute, '_RECOMPUTE_FROM', 0)
    torch.manual_seed(0)
    plain = Trunk(**SMALL).double()
    fast = use_fast_blocks(copy.deepcopy(plain))
    assert list(fast.state_dict()) == list(plain.state_dict())
    images = torch.randn(2, 3, 112, 56, dtype=torch.double)
    grads = []
    for trunk in (plain, fast):
        vectors = [v for vs in trunk(images) for v in vs]
        loss = sum(v.square().sum() for v in vectors)
        grads.append(
            (loss,
             torch.autograd.grad(loss, trunk.parameters(), allow_unused=True)))
    torch.testing.assert_close(*grads)


def test_copies_stay_fast():
    net = DynPerceiver(**SMALL)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert [type(m) for m in twin.modules()] == \
            [type(m) for m in net.modules()]


def test_other_classes_stay():

    class Other(X2Z):
        pass

    block = use_fast_blocks(Other(6, 8))
    assert type(block) is Other and type(block.mlp) is FastMLP
    hooked = MLP(4, 4)
    calls = []
    hooked.register_forward_hook(lambda *args: calls.append(args))
    use_fast_blocks(hooked)(torch.rand(1, 2, 4))
    assert type(hooked) is FastMLP and len(calls) == 1
