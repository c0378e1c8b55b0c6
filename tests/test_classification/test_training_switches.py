# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Options of training in an image classifier: steps, checkpoints, folders."""
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from mmpretrain.structures import DataSample
from tiny import build_model, model_config

from mmdynperceiver.core import DynPerceiver
from mmdynperceiver.core.models import own_names
from mmdynperceiver.hub.from_checkpoint import network_settings

IMAGES = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
ALL = dict(
    backbone=dict(model_config()['backbone'], gradient_equilibrium=True),
    head=dict(
        type='DynPerceiverHead',
        num_classes=5,
        boosting=0.5,
        sample_weights=dict(hidden=8)),
    branch_first=0.5)


def samples():
    return [DataSample().set_gt_label(k % 5) for k in range(6)]


@pytest.fixture
def progress():
    """Says how far a training of ten steps is."""
    hub = MessageHub.get_current_instance()
    before = dict(hub.runtime_info)

    def at(step):
        hub.update_info_dict(dict(iter=step, max_iters=10))

    yield at
    hub.runtime_info.clear()
    hub.runtime_info.update(before)


def step(model):
    """One step; the names of what it changed."""
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), 0.1))
    before = {k: v.clone() for k, v in model.named_parameters()}
    model.train_step(
        dict(inputs=list(IMAGES), data_samples=samples()), optimizer)
    return {
        k
        for k, v in model.named_parameters() if not torch.equal(v, before[k])
    }


def test_the_feature_branch_is_trained_first(progress):
    torch.manual_seed(0)
    backbone = dict(model_config()['backbone'], drop_path_rate=0.)
    model = build_model(backbone=backbone, branch_first=0.3).train()
    trunk = model.backbone.net
    for module in trunk.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            # At 0, as some are, nothing before them learns.
            torch.nn.init.ones_(module.weight)
    branch = {id(p) for m in trunk.branch_modules() for p in m.parameters()}
    branch |= set(map(id, model.branch_classifier.parameters()))
    own = {k for k, p in model.named_parameters() if id(p) in branch}
    progress(2)
    assert step(model) == own
    progress(3)
    assert step(model) == {
        k
        for k, _ in model.named_parameters()
        if not k.startswith('branch_classifier.')
    }


def test_the_loss_of_the_first_phase_by_hand(progress):
    torch.manual_seed(0)
    model = build_model(branch_first=0.3)
    progress(0)
    losses = model.eval().loss(IMAGES, samples())
    x = model.backbone.net.stem(IMAGES)
    for stage in model.backbone.net.stages:
        x = stage.conv(x)
    logits = model.branch_classifier(x.mean((2, 3))).log_softmax(1)
    expected = -logits[range(6), [k % 5 for k in range(6)]].mean()
    assert list(losses) == ['loss_branch']
    torch.testing.assert_close(losses['loss_branch'], expected)


def test_without_a_runner_all_is_trained():
    assert 'loss_exit0' in build_model(branch_first=0.3).loss(
        IMAGES, samples())


@pytest.mark.parametrize('share', [1, -0.1, 'half'])
def test_refuses_what_is_no_share_of_the_steps(share):
    with pytest.raises((ValueError, TypeError), match='branch_first|str'):
        build_model(branch_first=share)


def test_losses_with_weights_of_samples_by_hand():
    torch.manual_seed(0)
    model = build_model(
        head=dict(
            type='DynPerceiverHead',
            num_classes=5,
            sample_weights=dict(hidden=8, strength=0.5)))
    with torch.no_grad():
        model.head.sample_weights.layers[-2].weight.mul_(30)
    features = model.eval().backbone(IMAGES)
    logits = model.head(features)
    losses = model.head.loss(features, samples())
    labels = [k % 5 for k in range(6)]
    each = torch.stack([-x.log_softmax(1)[range(6), labels] for x in logits],
                       1)
    counts = model.head.sample_weights(each)
    assert counts.std() > 0.05
    for exit, weight in enumerate((0.5, 0.5, 1, 1)):
        torch.testing.assert_close(losses[f'loss_exit{exit}'],
                                   weight * (counts * each)[:, exit].mean())
    assert losses['loss_meta'].requires_grad
    with torch.no_grad():
        assert 'loss_meta' not in model.head.loss(features, samples())


def test_the_weights_of_samples_learn_by_looking_ahead_alone():
    torch.manual_seed(0)
    plain, model = (
        build_model(
            head=dict(
                type='DynPerceiverHead', num_classes=5, sample_weights=config))
        for config in (None, dict(hidden=8, strength=0.)))
    model.load_state_dict(plain.state_dict(), strict=False)
    torch.manual_seed(1)
    changed = step(model.train())
    own = {k for k in changed if k.startswith('head.sample_weights.')}
    assert own == set()  # of no strength, there is nothing to learn
    torch.manual_seed(1)
    step(plain.train())
    for name, value in plain.state_dict().items():
        if not name.endswith('_extra_state'):
            torch.testing.assert_close(model.state_dict()[name], value)
    model.head.sample_weights.strength = 0.3
    assert {k
            for k in step(model) if k.startswith('head.sample_weights.')} == {
                k
                for k, _ in model.named_parameters()
                if k.startswith('head.sample_weights.')
            }


@pytest.fixture(scope='module')
def trained():
    torch.manual_seed(0)
    return build_model(**ALL)


def test_all_together_in_a_checkpoint(trained, tmp_path):
    step(trained.train())
    assert trained.backbone.net.gradient_equilibrium
    path = tmp_path / 'epoch_1.pth'
    torch.save(trained.state_dict(), path)
    again = build_model(**ALL)
    again.load_state_dict(torch.load(path, weights_only=True))
    for one, other in zip(again.eval()(IMAGES, mode='tensor'),
                          trained.eval()(IMAGES, mode='tensor')):
        assert torch.equal(one, other)


def test_what_only_training_needs_is_not_shared(trained):
    config = Config(
        dict(model=model_config(**ALL), default_scope='mmpretrain'))
    settings = network_settings(config)
    assert settings['boosting'] == 0.5
    assert 'gradient_equilibrium' not in settings
    net = DynPerceiver(**settings)
    net.load_state_dict(own_names(trained.state_dict()))
    for one, other in zip(net.eval()(IMAGES),
                          trained.eval()(IMAGES, mode='tensor')):
        torch.testing.assert_close(one, other)
