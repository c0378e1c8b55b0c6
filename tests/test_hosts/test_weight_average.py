# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What the average of the weights covers, in runs of every length."""
import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from torch import nn

from mmdynperceiver.core import DynPerceiver, ExitPolicy


class Model(nn.Module):

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.policy = ExitPolicy(4)


def start(steps, epochs=None, model=None, kind='WarmupEMAHook', **options):
    """A hook and a runner at the beginning of a run."""
    hook = HOOKS.build(dict(type=kind, **options))
    loop = EpochBasedTrainLoop if epochs else IterBasedTrainLoop
    run = SimpleNamespace(
        model=model or Model(),
        max_iters=steps,
        max_epochs=epochs or 1,
        train_loop=loop.__new__(loop),
        iter=0,
        _resume=False,
        logger=logging.getLogger('test'))
    hook.before_run(run)
    return hook, run


def train(hook, run, first, last):
    """Let the weight be the number of the step."""
    for step in range(first, last):
        run.iter = step
        run.model.weight.data.fill_(step + 1)
        hook.after_train_iter(run, step)


@pytest.mark.parametrize('steps', [1, 2, 7, 60, 300, 5000])
@pytest.mark.parametrize('interval', [1, 5])
def test_covers_the_last_tenth_of_any_run(steps, interval):
    hook, run = start(steps, interval=interval)
    run.model.weight.data.fill_(-1e9)  # the initial weights
    train(hook, run, 0, steps)
    average = hook.ema_model.module.weight.item()
    assert average == pytest.approx(10 / 11 * steps, abs=1 + interval)


def test_ends_as_the_published_recipe():
    """300 epochs of ImageNet: only the first third differs, forgotten."""
    momentum, gamma, steps = 1e-4, 10, 300 * 1251
    warm = recipe = kept = 1.
    for step in range(1, steps):
        value = step / steps
        rate = max(momentum, gamma / (gamma + step))
        warm += rate * (value - warm)
        recipe += momentum * (value - recipe)
        kept *= 1 - rate
    assert warm == pytest.approx(recipe, abs=1e-10)
    assert kept < 1e-30
    hook, _ = start(steps, momentum=momentum)
    assert hook.num_steps_covered(steps) == 10000
    assert hook.num_steps_covered(99000) < 10000


def test_goes_on_where_it_was():
    whole, run = start(60)
    train(whole, run, 0, 60)
    first, run = start(60)
    train(first, run, 0, 30)
    saved = dict(state_dict=run.model.state_dict())
    first.before_save_checkpoint(run, saved)
    assert saved['state_dict']['weight'].item() < 30
    second, run = start(60)
    run._resume = True
    second.after_load_checkpoint(run, saved)
    assert saved['state_dict']['weight'].item() == 30
    train(second, run, 30, 60)
    torch.testing.assert_close(second.ema_model.module.weight,
                               whole.ema_model.module.weight)


def test_starts_anew_from_a_checkpoint_of_a_long_run():
    long, run = start(100)
    train(long, run, 0, 3)
    long.ema_model.steps.fill_(400000)
    saved = dict(state_dict=run.model.state_dict())
    long.before_save_checkpoint(run, saved)
    hook, run = start(60)
    hook.after_load_checkpoint(run, saved)
    train(hook, run, 0, 60)
    assert hook.ema_model.module.weight.item() > 50


@pytest.mark.parametrize('steps, epochs, text', [
    (60, 6, 'about the last 7 of 60 steps (0.7 of 6 epochs)'),
    (300 * 1251, 300, 'about the last 10,000 of 375,300 steps (8 of 300 '
     'epochs)'),
    (1000, None, 'about the last 101 of 1,000 steps;'),
    (1, 1, 'about the last 1 of 1 steps (1 of 1 epochs)'),
])
def test_says_what_it_covers(caplog, steps, epochs, text):
    hook, run = start(steps, epochs)
    with caplog.at_level(logging.INFO):
        hook.before_train(run)
    assert text in caplog.text


@pytest.mark.parametrize('kind', ['WarmupEMAHook', 'EMAHook'])
def test_thresholds_of_a_checkpoint_do_not_come_along(kind, caplog):
    """Neither in the model nor in its average, be it the host's own."""
    net = DynPerceiver('resnet18', width=0.125, num_latents=8, num_classes=2)
    net.policy = ExitPolicy(4)
    state = net.state_dict()
    state['policy._extra_state'] = torch.tensor([.5, .6, .7]).double()
    hook, run = start(6, model=net, kind=kind, update_buffers=True)
    switch = HOOKS.build(dict(type='EvaluateAllExitsHook'))
    run.hooks, run.val_loop = [hook, switch], None
    net.load_state_dict(state)
    hook.after_load_checkpoint(run, dict(state_dict=state))
    assert hook.ema_model.module.policy.thresholds is not None
    hook.before_train(run)
    switch.before_train(run)
    saved = dict(state_dict=net.state_dict())
    hook.before_save_checkpoint(run, saved)
    for weights, prefix in ((saved['state_dict'], ''),
                            (saved['ema_state_dict'], 'module.')):
        assert (weights[f'{prefix}policy._extra_state'] == -1).all()
    assert 'thresholds of the checkpoint are left out' in caplog.text
