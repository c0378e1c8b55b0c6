# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What changes in training, against values by hand."""
import math

import pytest
import torch
import torch.nn.functional as F
from tiny_networks import TRUNKS, spread

from mmdynperceiver.core import (ConvTrunk, DynPerceiver, EarlyExitNet, Exits,
                                 Trunk, create_model, prepare_for_inference)
from mmdynperceiver.core.sample_weights import SampleWeights
from mmdynperceiver.core.segments import TrunkState, scale_gradient

BLOCKS = dict(block='basic', depths=(1, 1, 1, 1), stem_stride=2)
TARGET = torch.arange(6) % 5
IMAGES = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def losses_of(logits, target):
    return F.cross_entropy(logits, target, reduction='none')


def gradients(net, equilibrium):
    """Of the sum of the exits' losses; and the logits."""
    net.trunk.gradient_equilibrium = equilibrium
    net.zero_grad()
    torch.manual_seed(0)
    logits = net(IMAGES)
    sum(losses_of(one, TARGET).mean() for one in logits).backward()
    found = {
        name: p.grad.clone()
        for name, p in net.named_parameters() if p.grad is not None
    }
    return found, logits


def check_factors(net, factors):
    """Compare each gradient with a multiple of what it is otherwise."""
    plain, expected = gradients(net, False)
    scaled, logits = gradients(net, True)
    assert all(map(torch.equal, logits, expected))
    for name, gradient in plain.items():
        factor = next(f for start, f in factors.items()
                      if name.startswith(start))
        torch.testing.assert_close(
            scaled[name], factor * gradient, atol=1e-6, rtol=1e-4)


def build(trunk):
    torch.manual_seed(0)
    return EarlyExitNet(trunk, 5).train()


def test_scaled_gradients_leave_values_as_they_are():
    x = torch.randn(4, requires_grad=True)
    y = scale_gradient(x, 0.25)
    assert torch.equal(x, y)
    y.sum().backward()
    assert torch.equal(x.grad, torch.full((4, ), 0.25))


def test_on_one_path_a_segment_gets_the_mean_of_the_exits_behind_it():
    """With three exits behind it a third of the sum, with two a half, with
    one all; classifiers get all of their own."""
    check_factors(
        build(ConvTrunk(BLOCKS, 0.125, 0., exit_stages=(1, 2, 3))), {
            'trunk.stem': 1 / 3,
            'trunk.stages.0': 1 / 3,
            'trunk.stages.1': 1 / 3,
            'trunk.stages.2': 1 / 2,
            'trunk.stages.3': 1,
            'exits': 1
        })


@pytest.mark.parametrize('name, last', [('msdnet', 'blocks'),
                                        ('ranet', 'networks')])
def test_layers_of_an_exit_alone_get_all_of_its_gradient(name, last):
    net = build(TRUNKS[name]())
    plain, _ = gradients(net, False)
    scaled, _ = gradients(net, True)
    for name, gradient in plain.items():
        same = torch.allclose(gradient, scaled[name], atol=1e-6, rtol=1e-4)
        own = name.startswith(('trunk.exit_convs', 'exits', f'trunk.{last}.2'))
        # Others lie on paths around the branches, too.
        assert same or not own, name
    assert not torch.allclose(plain['trunk.stem.0.0.weight'],
                              scaled['trunk.stem.0.0.weight'])


def test_networks_that_share_no_features_have_no_branches():
    check_factors(build(TRUNKS['cascade']()), {'': 1})


def test_of_two_branches_the_one_that_is_read_is_rescaled():
    """Exit 0 of 4 reads latents: a quarter for what made them, three for what
    comes back from behind; what the features bring stays."""
    torch.manual_seed(0)
    trunk = Trunk(BLOCKS, 16, 0.125, (0, 0, 1 / 9, 1 / 3), drop_path_rate=0.)
    trunk.gradient_equilibrium = True
    z = torch.randn(2, 4, 16, requires_grad=True)
    x = torch.randn(2, 16, 4, 4, requires_grad=True)
    trunk.run_segment = lambda index, state: (state, (state.z.mean(1), ))
    state, (vector, ) = trunk.train().segment(0, TrunkState(x, z))
    (vector.sum() + state.x.sum() + state.z.sum()).backward()
    torch.testing.assert_close(x.grad, torch.ones_like(x))
    torch.testing.assert_close(z.grad, torch.full_like(z, 0.25 / 4 + 0.75))
    trunk.eval()
    assert trunk.segment(0, TrunkState(x, z))[0].z is z


def test_boosted_logits_are_sums_by_hand():
    torch.manual_seed(0)
    exits = Exits([[3], [4], [4]], 2, kinds='xxx', boosting=0.5)
    features = [[torch.randn(5, width)] for width in (3, 4, 4)]
    alone = [
        classifier(one)
        for classifier, (one, ) in zip(exits.classifiers, features)
    ]
    found = exits(features)
    torch.testing.assert_close(found[0], alone[0])
    torch.testing.assert_close(found[1], alone[1] + 0.5 * alone[0])
    torch.testing.assert_close(found[2],
                               alone[2] + 0.5 * alone[1] + 0.25 * alone[0])
    # Each learns from its own loss alone: softmax minus the target.
    target = torch.tensor([0, 1, 1, 0, 1])
    F.cross_entropy(found[2], target).backward()
    slope = (found[2].softmax(1) - F.one_hot(target, 2)) / 5
    torch.testing.assert_close(exits.classifiers[2][-1].bias.grad,
                               slope.sum(0))
    assert exits.classifiers[1][-1].bias.grad is None
    assert exits.classifiers[0][-1].bias.grad is None


@pytest.fixture(scope='module')
def boosted():
    torch.manual_seed(0)
    net = DynPerceiver(
        BLOCKS,
        5,
        boosting=0.5,
        num_latents=16,
        width=0.125,
        depth_factor=(0, 0, 1 / 9, 1 / 3),
        drop_path_rate=0.)
    with torch.no_grad():
        for weight in net.exits.parameters():
            weight.mul_(4)
        for _ in range(10):
            net(torch.randn(16, 3, 32, 32))
    return net.eval()


@torch.no_grad()
def test_knowledge_is_transferred_as_without_sums(boosted):
    """Exit 1 reads the logits of exit 0, exit 3 those of exit 1; to the sum
    exit 2 on features adds as well."""
    exits, features = boosted.exits, boosted.trunk(IMAGES)
    inputs = [torch.cat(tuple(one), 1) for one in features]
    first = exits.classifiers[0](inputs[0])
    second = exits.classifiers[1](torch.cat([inputs[1], exits.fkt[0](first)],
                                            1)) + first / 2
    third = exits.classifiers[2](inputs[2]) + second / 2
    last = exits.classifiers[3](torch.cat([inputs[3], exits.fkt[1](second)],
                                          1)) + third / 2
    for one, other in zip(boosted(IMAGES), (first, second, third, last)):
        torch.testing.assert_close(one, other)


@torch.no_grad()
def test_boosted_networks_leave_early_as_replayed(boosted):
    logits = boosted(IMAGES)
    thresholds = spread(logits)
    policy = type(boosted.policy)(4, thresholds)
    expected = policy.replay(logits)
    assert len(set(expected.exit_index.tolist())) > 2
    prepared = prepare_for_inference(boosted, (32, 32))
    for net in (boosted, prepared):
        out = net.predict(IMAGES, thresholds)
        assert torch.equal(out.exit_index, expected.exit_index)
        torch.testing.assert_close(
            out.logits, expected.logits, atol=1e-4, rtol=1e-4)


def test_boosted_weights_load_only_where_they_are_added_up(boosted, tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save(boosted.state_dict(), path)
    settings = {k: v for k, v in boosted.settings.items() if k != 'arch'}
    options = dict(settings, name='resnet22-w025', pretrained=path)
    options.update(arch=BLOCKS)
    again = create_model(**options)
    assert all(map(torch.equal, again(IMAGES), boosted(IMAGES)))
    with pytest.raises(ValueError, match='unexpected: exits.boosting'):
        create_model(**dict(options, boosting=None))
    boosted.exits.boosting.fill_(0.25)
    other = create_model(**options)
    other.load_state_dict(boosted.state_dict())
    assert all(map(torch.equal, other(IMAGES), boosted(IMAGES)))
    boosted.exits.boosting.fill_(0.5)


@pytest.mark.parametrize('boosting', [0, -1., float('nan')])
def test_refuses_what_is_no_factor(boosting):
    with pytest.raises(ValueError, match='boosting must be above 0'):
        Exits([[3], [3]], 2, kinds='xx', boosting=boosting)


def test_weights_of_samples_are_one_on_average():
    torch.manual_seed(0)
    weights = SampleWeights(3, hidden=8, strength=0.8)
    with torch.no_grad():
        weights.layers[-2].weight.mul_(50)
    losses = torch.rand(6, 3, requires_grad=True)
    found = weights(losses)
    torch.testing.assert_close(found.mean(), torch.tensor(1.))
    assert found.std() > 0.1 and (found - 1).abs().max() < 1.6
    raw = weights.layers(losses)
    torch.testing.assert_close(found, 1 + 0.8 * (raw - raw.mean()))
    found.sum().backward()
    assert losses.grad is None


def test_each_sample_counts_where_it_leaves():
    """Shares 4 : 2 : 1 of seven samples; the surest leave first."""
    weights = SampleWeights(3, hidden=2, share_ratio=0.5)
    assert weights.shares == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    sure = torch.tensor([3., 1, 7, 2, 6, 4, 5])
    logits = [torch.stack([s * sure, 0 * sure], 1) for s in (1., -1., 0.5)]
    target = torch.zeros(7, dtype=torch.long)
    found = weights.leaving_loss(logits, target, losses_of)

    def loss(margin):
        return math.log(1 + math.exp(-margin))

    # Those with 7, 6, 5, 4; of the others 3 and 2; then 1.
    by_hand = sum(map(loss, (7, 6, 5, 4))) / 4 + \
        sum(map(loss, (-3, -2))) / 2 + loss(0.5)
    assert found.item() == pytest.approx(by_hand, rel=1e-5)


def test_the_step_that_is_looked_ahead_by_hand():
    """Two linear exits: what their biases and weights are after a step, and
    the slope by finite differences."""
    torch.manual_seed(0)
    exits = Exits([[2], [3]], 3, kinds='xx').double()
    weights = SampleWeights(2, hidden=4, strength=0.5, step_size=0.7).double()
    vectors = [[torch.randn(8, c, dtype=torch.double)] for c in (2, 3)]
    target = torch.arange(8) % 3
    before = {k: v.clone() for k, v in exits.state_dict().items()}

    def by_hand():
        total = 0.
        for own, others in ((slice(4), slice(4, 8)), (slice(4, 8), slice(4))):
            layers = [c[-1] for c in exits.classifiers]
            logits = [f(v[own]) for f, (v, ) in zip(layers, vectors)]
            each = torch.stack([losses_of(x, target[own]) for x in logits], 1)
            counts = weights(each)
            stepped = []
            for k, (layer, (v, )) in enumerate(zip(layers, vectors)):
                slope = (logits[k].softmax(1) - F.one_hot(target[own], 3)) * \
                    counts[:, k:k + 1] / 4 * (0.5, 1.)[k]
                stepped.append(v[others] @ (layer.weight - 0.7 *
                                            (slope.T @ v[own])).T +
                               layer.bias - 0.7 * slope.sum(0))
            total += weights.leaving_loss(stepped, target[others], losses_of)
        return total / 2

    # It computes in single precision.
    found = weights.float().meta_loss(exits.float(), vectors, target,
                                      losses_of, (0.5, 1.))
    weights.double(), exits.double()
    with torch.no_grad():
        assert found.item() == pytest.approx(by_hand().item(), rel=1e-5)
    found.backward()
    bias = weights.layers[0].weight
    with torch.no_grad():
        bias[1, 0] += 1e-4
        above = by_hand()
        bias[1, 0] -= 2e-4
        slope = (above - by_hand()) / 2e-4
    assert slope.abs() > 1e-6
    assert bias.grad[1, 0].item() == pytest.approx(slope.item(), rel=1e-2)
    assert all(p.grad is None for p in exits.parameters())
    assert all(map(torch.equal, before.values(), exits.state_dict().values()))


def test_looking_ahead_leaves_the_statistics_of_norms_alone():
    torch.manual_seed(0)
    exits = Exits([[2], [3, 2]], 3, kinds=('z', 'xz'))
    before = {k: v.clone() for k, v in exits.state_dict().items()}
    vectors = [[torch.randn(8, c) for c in cs] for cs in ((2, ), (3, 2))]
    weights = SampleWeights(2, hidden=4)
    target = torch.arange(4) % 3
    loss = weights.meta_loss(exits, vectors, target, losses_of, (1, 1), 2)
    loss.backward()
    assert weights.layers[0].weight.grad.abs().sum() > 0
    assert all(map(torch.equal, before.values(), exits.state_dict().values()))
    few = [[v[:4] for v in one] for one in vectors]
    none = weights.meta_loss(exits, few, target[:2], losses_of, (1, 1), 2)
    assert none.item() == 0 and none.requires_grad


@pytest.mark.parametrize('options, message', [
    (dict(num_exits=1), 'several exits'),
    (dict(hidden=0), 'hidden.*0'),
    (dict(strength=1), 'strength.*below 1, got 1'),
    (dict(share_ratio=0), 'share_ratio.*above 0'),
    (dict(step_size=-1), 'step_size.*-1'),
])
def test_refuses_wrong_options_of_sample_weights(options, message):
    with pytest.raises(ValueError, match=message):
        SampleWeights(**{'num_exits': 3, **options})


@torch.no_grad()
def test_the_feature_branch_alone():
    conv = ConvTrunk(BLOCKS, 0.125, 0.).eval()
    torch.testing.assert_close(conv.run_branch(IMAGES), conv(IMAGES)[-1][0])
    trunk = Trunk(BLOCKS, 16, 0.125, (0, 0, 1 / 9, 1 / 3)).eval()
    trunk.load_state_dict(conv.state_dict(), strict=False)
    torch.testing.assert_close(
        trunk.run_branch(IMAGES), conv.run_branch(IMAGES))
    assert trunk.branch_channels == conv.exit_channels[-1][0]
    for name in TRUNKS:
        other = TRUNKS[name]().eval()
        found = other.run_branch(IMAGES)
        assert found.shape == (6, other.branch_channels)
        torch.testing.assert_close(found, torch.cat(other(IMAGES)[-1], 1))
