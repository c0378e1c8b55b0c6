# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The classification branch of few operations."""
import pytest
import torch
from torch.nn.functional import gelu

from mmdynperceiver.core import (DynPerceiver, ExitPolicy, Trunk,
                                 fixed_exit_thresholds, prepare_for_inference,
                                 run_all_exits, run_early_exit, select_exits)
from mmdynperceiver.core.accelerate.folding import FirstReadingBlock
from mmdynperceiver.core.branches import LatencyFirstBranch
from mmdynperceiver.core.latency_first import (ChannelGate, ParallelBlock,
                                               ReadingBlock)

SMALL = dict(
    arch='resnet18',
    width=0.25,
    num_latents=4,
    latent_channels=24,
    depth_factor=(0, 0, 1 / 9, 0),
    branch='latency-first')


@pytest.fixture(scope='module')
def net():
    """A network whose gates are open and whose batch norms are used."""
    torch.manual_seed(0)
    net = DynPerceiver(**SMALL, num_classes=5)
    for module in net.modules():
        if isinstance(module, ChannelGate):
            torch.nn.init.normal_(module.gate.weight, std=0.2)
        if isinstance(module, ReadingBlock):
            torch.nn.init.normal_(module.position_bias)
    with torch.no_grad():
        for _ in range(3):
            net(torch.randn(16, 3, 64, 64))
        for classifier in net.exits.classifiers:
            layer = classifier if isinstance(
                classifier, torch.nn.Linear) else classifier[-1]
            layer.weight.mul_(5)
    return net.eval()


@pytest.fixture(scope='module')
def images():
    return torch.randn(
        17, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def attention(q, k, v, heads):
    """Head by head, from the definition."""
    found = []
    for qh, kh, vh in zip(*(t.chunk(heads, -1) for t in (q, k, v))):
        scores = torch.einsum('bld,bmd->blm', qh, kh) / qh.shape[-1]**0.5
        found.append(scores.exp() / scores.exp().sum(-1, keepdim=True) @ vh)
    return torch.cat(found, -1)


def test_parallel_block_from_its_definition():
    block, z = ParallelBlock(12, 3, mlp_ratio=1.5), torch.randn(2, 5, 12)
    q, k, v, hidden = block.project(block.norm(z)).split([12, 12, 12, 18], -1)
    weights = block.merge.weight.split([12, 18], 1)
    expected = z + attention(q, k, v, 3) @ weights[0].T + \
        gelu(hidden) @ weights[1].T + block.merge.bias
    torch.testing.assert_close(block(z), expected)


def test_reading_block_reads_places_and_latents():
    block, z = ReadingBlock(8, 12, 2), torch.randn(2, 5, 12)
    torch.nn.init.normal_(block.position_bias)
    x = torch.randn(2, 8, 14, 21)
    cells = x.unfold(2, 2, 2).unfold(3, 3, 3).mean((-2, -1))
    tokens = block.norm_x(cells.permute(0, 2, 3, 1).reshape(2, 49, 8))
    keys, values = (tokens @ block.kv.weight.T + block.position_bias).chunk(
        2, -1)
    q, k, v, hidden = block.project(block.norm(z)).split([12, 12, 12, 24], -1)
    read = attention(q, torch.cat([keys, k], 1), torch.cat([values, v], 1), 2)
    expected = z + block.merge(torch.cat([read, gelu(hidden)], -1))
    torch.testing.assert_close(block(x, z), expected)


def test_gate_starts_at_the_identity():
    gate = ChannelGate(6, 4)
    x, z = torch.randn(2, 6, 3, 3), torch.randn(2, 5, 4)
    assert torch.equal(gate(x, z), x)
    gate.gate.weight.data[2] = gate.gate.weight.data[6 + 4] = 1
    expected = x.clone()
    mean = z.mean(1).sum(1)[:, None, None]
    expected[:, 2] = x[:, 2] * (1 + mean)
    expected[:, 4] = x[:, 4] + mean
    torch.testing.assert_close(gate(x, z), expected)


def test_stands_where_the_options_say():
    trunk = Trunk(**SMALL)
    assert [stage.x2z is None for stage in trunk.stages] == [1, 0, 0, 0]
    assert [stage.z2x is None for stage in trunk.stages] == [1, 0, 0, 1]
    assert [len(stage.blocks) for stage in trunk.stages] == [0, 0, 1, 0]
    assert all(stage.token_mixer is None for stage in trunk.stages)
    assert trunk.last_z2x is None and trunk.exit_kinds == ('z', 'z', 'xz')
    assert trunk.exit_channels == ((24, ), (24, ), (128, 24))
    less = Trunk(**SMALL, x2z=False, z2x=False, last_z2x=True)
    assert [stage.x2z is None for stage in less.stages] == [1, 0, 1, 1]
    assert all(stage.z2x is None for stage in less.stages)
    assert isinstance(less.last_z2x, ChannelGate)
    late = Trunk(**SMALL, first_x2z=2)
    assert [stage.x2z is None for stage in late.stages] == [1, 1, 0, 0]
    assert [stage.z2x is None for stage in late.stages] == [1, 1, 0, 1]
    four = Trunk(**SMALL, exits='classification')
    assert four.exit_kinds == ('z', 'z', 'x', 'xz')


def test_defaults_are_the_familys():
    trunk = Trunk('resnet18', width=0.25, branch='latency-first')
    defaults = LatencyFirstBranch.defaults
    assert trunk.latents.shape == (defaults['num_latents'],
                                   defaults['latent_channels'])
    paper = Trunk('resnet18', width=0.25)
    assert paper.latents.shape == (128, 16)
    assert paper.exit_kinds == ('z', 'z', 'x', 'xz')


@pytest.mark.parametrize('change, message', [
    (dict(branch='fast'), "branch must be one of paper, latency-first, got "
     "'fast'"),
    (dict(dw_conv=True), 'no dw_conv, got True'),
    (dict(token_mixer=False), 'no token_mixer, got False'),
    (dict(branch='paper'), 'no latent_channels, got 24'),
    (dict(branch='paper', latent_channels=None,
          first_x2z=2), 'no first_x2z, got 2'),
    (dict(first_x2z=3), 'first_x2z must be 0, 1 or 2, .*got 3'),
    (dict(latent_channels=0), 'latent_channels must be .*got 0'),
    (dict(num_latents=0), 'num_latents must be .* at least 1, got 0'),
    (dict(latent_channels=20), r'num_heads=\(3, 1, 1, 1\) would fit'),
])
def test_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Trunk(**{**SMALL, **change})


def test_every_parameter_is_trained(images):
    net = DynPerceiver(**SMALL, num_classes=5).train()
    loss = sum(logits.square().sum() for logits in net(images))
    loss.backward()
    # But those that the gates, closed at first, shut off from the features.
    assert [name for name, p in net.named_parameters() if p.grad is None] == []
    assert all(p.grad.abs().sum() > 0 for name, p in net.named_parameters()
               if 'gate' in name or 'position_bias' in name)


def test_leaves_early_as_replayed(net, images):
    with torch.no_grad():
        logits = run_all_exits(*net.exit_parts(), images)
        confidence = [x.softmax(1).amax(1) for x in logits]
        thresholds = [c.median().item() for c in confidence[:-1]]
        policy = ExitPolicy(3, thresholds)
        expected = select_exits(logits, thresholds)
        found = run_early_exit(*net.exit_parts(), policy, images)
    assert set(found.exit_index.tolist()) == {0, 1, 2}
    assert torch.equal(found.exit_index, expected.exit_index)
    torch.testing.assert_close(found.logits, expected.logits)


def test_prepared_is_the_same(net, images):
    fast = prepare_for_inference(net, (64, 64))
    with torch.no_grad():
        for got, want in zip(fast(images), net(images), strict=True):
            torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)
    assert fast.macs_per_exit() == net.macs_per_exit()
    out = fast.predict(images, fixed_exit_thresholds(1, 3))
    assert set(out.exit_index.tolist()) == {1}


def first_readings(model):
    return sum(isinstance(m, FirstReadingBlock) for m in model.modules())


def test_first_reading_of_the_initial_latents(images):
    block = ReadingBlock(8, 12, 3).double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    x, z = torch.randn(2, 8, 14, 14).double(), torch.randn(5, 12).double()
    torch.testing.assert_close(
        FirstReadingBlock(block, z)(x, z), block(x, z.expand(2, -1, -1)))


def test_first_reading_is_folded_where_nothing_else_comes_before(net):
    late = Trunk(**SMALL, first_x2z=2).eval()
    for model in (net, late):
        assert first_readings(prepare_for_inference(model, (64, 64))) == 1
    blocks = Trunk(**dict(SMALL, depth_factor=(1, 0, 0, 0))).eval()
    hooked = Trunk(**SMALL).eval()
    hooked.stages[1].x2z.register_forward_hook(lambda *_: None)
    nowhere = Trunk(**dict(SMALL, depth_factor=(0, 0, 0, 0))).eval()
    for stage in nowhere.stages:
        stage.x2z = None
    for trunk in (blocks, hooked, nowhere):
        assert not first_readings(prepare_for_inference(trunk, (64, 64)))


def test_macs_of_the_latents():
    """What the branch adds to its feature branch, counted by hand."""
    small = dict(SMALL, arch=dict(block='basic', depths=(1, 1, 1, 1)))
    with_latents = DynPerceiver(**small, num_classes=5)
    trunk = with_latents.trunk
    n, d, h = 4, 24, 48
    block = n * d * (3 * d + h) + 2 * n * n * d + n * (d + h) * d
    reading = [
        block + 49 * c * 2 * d + 2 * n * 49 * d for c in trunk.channels[1:4]
    ]
    gates = [d * 2 * c for c in trunk.channels[2:4]]
    # The second exit's input has the first one's logits beside it.
    classifier = 5 * d + 2 * d * 5
    found = with_latents.macs_per_exit((3, 64, 64))
    convs = [
        sum(p.numel() * (64 // stride)**2 for p in stage.conv.parameters()
            if p.ndim == 4)
        for stage, stride in zip(trunk.stages, trunk.strides[1:])
    ]
    # From the first exit to the second: a stage, its gate, a reading block.
    assert found[1] - found[0] == convs[2] + gates[1] + reading[2] + \
        classifier
