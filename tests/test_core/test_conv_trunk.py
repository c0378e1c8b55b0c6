# Copyright (c) mmdynperceiver contributors. All rights reserved.
import pytest
import torch

from mmdynperceiver.core import (ConvTrunk, DynPerceiver, ExitPolicy, Trunk,
                                 fixed_exit_thresholds, macs_per_exit,
                                 run_all_exits, run_early_exit)
from mmdynperceiver.core.dyn_perceiver import build_exits
from mmdynperceiver.core.segments import Half
from mmdynperceiver.core.trunk import EXIT_PLANS

TINY = dict(arch='resnet18', width=0.25)
IMAGES = torch.rand(9, 3, 64, 64)


@pytest.mark.parametrize('arch, parameters, macs', [
    ('regnety-800mf', 6_432_512, 0.834e9),
    ('resnet18', 11_689_512, 1.814e9),
    ('mobilenetv3-large', 5_483_032, 0.217e9),
])
def test_is_torchvisions_network(arch, parameters, macs):
    """Parameters and multiply-adds as torchvision states them."""
    trunk = ConvTrunk(arch)
    exits = build_exits(trunk, 1000)
    found = sum(p.numel() for part in (trunk, exits)
                for p in part.parameters())
    assert found == parameters
    assert macs_per_exit(trunk, exits,
                         (3, 224, 224)) == (pytest.approx(macs, rel=0.01), )


def test_exits_on_the_way():
    trunk = ConvTrunk(**TINY, exit_stages=(1, 2, 3)).eval()
    exits = build_exits(trunk, 5).eval()
    assert trunk.exit_channels == ((32, ), (64, ), (128, ))
    assert exits.fkt is None
    all_logits = run_all_exits(trunk, exits, IMAGES)
    x = trunk.stem(IMAGES)
    for stage in trunk.stages[:2]:
        x = stage['conv'](x)
    torch.testing.assert_close(exits.classifiers[0](x.mean((2, 3))),
                               all_logits[0])
    macs = macs_per_exit(trunk, exits, (3, 64, 64))
    assert sorted(set(macs)) == list(macs)
    for exit in range(3):
        policy = ExitPolicy(3, fixed_exit_thresholds(exit, 3))
        out = run_early_exit(trunk, exits, policy, IMAGES)
        torch.testing.assert_close(out.logits, all_logits[exit])


def test_mixed_exits_equal_replay():
    trunk = ConvTrunk(**TINY, exit_stages=(2, 3)).eval()
    exits = build_exits(trunk, 5).eval()
    with torch.no_grad():
        all_logits = run_all_exits(trunk, exits, IMAGES)
    conf = all_logits[0].softmax(1).amax(1).sort().values
    policy = ExitPolicy(2, [float(conf[4:6].mean())])
    expected = policy.replay(all_logits)
    assert expected.exit_index.unique().tolist() == [0, 1]
    out = run_early_exit(trunk, exits, policy, IMAGES)
    assert torch.equal(out.exit_index, expected.exit_index)
    torch.testing.assert_close(out.logits, expected.logits)


@pytest.mark.parametrize('stages', [(), (2, ), (3, 2), (2, 2, 3), (-1, 3),
                                    (3, 4)])
def test_refuses_other_exit_stages(stages):
    with pytest.raises(ValueError, match='exit_stages'):
        ConvTrunk(**TINY, exit_stages=stages)


@pytest.mark.parametrize('plan', EXIT_PLANS)
def test_plans_cover_the_same_network(plan):
    """Where exits stand changes neither the weights nor what is computed."""
    trunks = [
        Trunk(**TINY, num_latents=16, exits=name).eval()
        for name in ('classification', plan)
    ]
    trunks[1].load_state_dict(trunks[0].state_dict())
    ends = [trunk(IMAGES)[-1] for trunk in trunks]
    for one, other in zip(*ends):
        torch.testing.assert_close(one, other)
    chains = [[
        half for index in range(trunk.num_segments)
        for half in trunk.halves(index)
    ] for trunk in trunks]
    assert chains[0] == chains[1]
    assert chains[0][0] == Half('stem') and len(chains[0]) == 10


@pytest.mark.parametrize('plan, counts', [('feature', 2), ('none', 1)])
def test_exits_follow_the_plan(plan, counts):
    net = DynPerceiver(
        **TINY, num_latents=16, num_classes=5, exits=plan).eval()
    logits = net(IMAGES)
    assert [t.shape for t in logits] == [(9, 5)] * counts
    macs = net.macs_per_exit((3, 64, 64))
    assert len(macs) == counts
    logits = net.train()(IMAGES)
    sum(t.sum() for t in logits).backward()
    assert all(p.grad is not None for p in net.parameters())


def test_the_early_exit_of_feature_reads_stage_3():
    net = DynPerceiver(
        **TINY, num_latents=16, num_classes=5, exits='feature').eval()
    state = net.trunk.initial_state(IMAGES)
    for half in net.trunk.halves(0):
        state = net.trunk.run_half(half, state)
    assert half == Half('extract', 2)
    expected = net.exits.classifiers[0](state.x.mean((2, 3)))
    torch.testing.assert_close(net(IMAGES)[0], expected)


def test_unknown_plan():
    with pytest.raises(
            ValueError, match='classification, joint, feature, last'):
        Trunk(**TINY, exits='all')
