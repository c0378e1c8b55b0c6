# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Checkpoints from which no training goes on."""
import re
from types import SimpleNamespace

import pytest
import torch
from mmengine.runner import Runner
from tiny_training import COUNT, Net, checkpoints, train
from torch import nn

from mmdynperceiver.errors import InputError
from mmdynperceiver.hosts.optimizer_state import check_optimizers
from mmdynperceiver.hosts.resume import CheckCheckpointHook
from mmdynperceiver.io.checkpoint_file import read_checkpoint

REMOVE = object()
NAN = float('nan')
HUB, GROUP = 'message_hub', 'optimizer param_groups 0'
MOMENTS, SCHEDULE = 'optimizer state 0', 'param_schedulers 0'
# Where, what it becomes, and what is said of it.
REFUSED = [
    ('state_dict layer.weight', REMOVE, 'missing: layer.weight'),
    ('state_dict x', torch.ones(1), 'unexpected: x;'),
    ('state_dict layer.weight', torch.ones(1, 4),
     r'layer.weight is \(1, 4\) instead of \(2, 4\)'),
    ('state_dict layer.weight', torch.full(
        (2, 4), NAN), "state_dict: damaged weights: 'layer.weight' holds NaN"),
    ('state_dict layer.weight', torch.ones(2, 4, dtype=bool),
     'layer.weight is bool instead of float32'),
    ('state_dict', 3, 'holds no weights'),
    ('meta', REMOVE, 'has no meta;'),
    (HUB, REMOVE, 'has no message_hub;'),
    ('optimizer', REMOVE, 'has no optimizer;'),
    ('param_schedulers', REMOVE, 'has no param_schedulers;'),
    ('meta epoch', '2', "meta.epoch must be a whole number, got '2'"),
    ('meta iter', REMOVE, 'meta.iter must be'),
    ('meta config', 'import os', 'holds code'),
    ('meta seed', 10**30, 'meta.seed must be'),
    (f'{HUB} log_scalars', REMOVE, 'no log_scalars'),
    (f'{HUB} runtime_info keep_ckpt_ids', ['../../x'],
     'keep_ckpt_ids must be a list of whole'),
    (f'{HUB} runtime_info best_score', 'x',
     "best_score must be a number, got 'x'"),
    (f'{HUB} resumed_keys iter', 3, 'resumed_keys are not all True or False'),
    ('ema_state_dict', {}, 'EMAHook'),
    (f'{MOMENTS} exp_avg', torch.zeros(1),
     r'\[0\].exp_avg must be .* shape \(2, 4\), got a tensor of float32 \(1,'),
    (f'{MOMENTS} exp_avg', torch.full(
        (2, 4), NAN), r"optimizer.state\[0\].exp_avg' holds NaN"),
    (f'{MOMENTS} exp_avg_sq', REMOVE, r'state\[0\] has no exp_avg_sq'),
    (f'{MOMENTS} exp_avg', 3., r'exp_avg must be a tensor of shape \(2, 4\)'),
    (f'{MOMENTS} step', torch.tensor(-1.), 'step is tensor'),
    ('optimizer state 99', {}, 'of other weights'),
    ('optimizer state', {}, 'is empty'),
    ('optimizer param_groups', [{}, {}], '2 groups of weights instead of 1'),
    (f'{GROUP} params', [0, 1, 2], 'not of 4 weights'),
    (f'{GROUP} params', [0, 1, 2, 2], 'twice'),
    (f'{GROUP} lr', NAN,
     r'optimizer.param_groups\[0\].lr must be like .* got nan'),
    (f'{GROUP} betas', REMOVE, r'param_groups\[0\].betas is missing'),
    (f'{GROUP} amsgrad', True, r'amsgrad is True, and False in the config'),
    ('param_schedulers', [], 'must be 1 param_schedulers'),
    (f'{SCHEDULE} last_step', REMOVE,
     r'param_schedulers\[0\].last_step is missing'),
    (f'{SCHEDULE} base_values', [],
     r'base_values must be like \[0.1\], got \[\]'),
    (f'{SCHEDULE} step', 3, 'step is of another kind'),
]


@pytest.mark.parametrize('path, value, message', REFUSED)
def test_what_does_not_fit_is_refused(trained, tmp_path, path, value, message):
    content = part = read_checkpoint(trained / 'epoch_2.pth')
    *owners, last = (int(k) if k.isdigit() else k for k in path.split())
    for name in owners:
        part = part[name]
    part[last] = value
    if value is REMOVE:
        del part[last]
    torch.save(content, tmp_path / 'x.pth')
    with pytest.raises(InputError, match='cannot resume: .*load_from') as got:
        train(tmp_path / 'new', 3, resume=tmp_path / 'x.pth')
    assert re.search(message, str(got.value)), str(got.value)
    assert not checkpoints(tmp_path / 'new')


def test_refused_averages(tmp_path):
    train(tmp_path, 1, average=True)
    content = read_checkpoint(tmp_path / 'epoch_1.pth')
    average = content['ema_state_dict']
    for name, value, message in (('module.layer.bias', torch.ones(3),
                                  'ema_state_dict does not fit'),
                                 ('module.layer.bias',
                                  torch.ones(2) * float('nan'), 'holds NaN'),
                                 ('steps', torch.tensor(-1), 'steps is -1'),
                                 ('steps', None, 'missing: steps')):
        changed = dict(average)
        changed[name] = value
        if value is None:
            del changed[name]
        torch.save(dict(content, ema_state_dict=changed), tmp_path / 'x.pth')
        with pytest.raises(InputError, match=message):
            train(tmp_path / 'new', 2, tmp_path / 'x.pth', average=True)
    del content['ema_state_dict']
    torch.save(content, tmp_path / 'x.pth')
    with pytest.raises(InputError, match='has no ema_state_dict'):
        train(tmp_path / 'new', 2, tmp_path / 'x.pth', average=True)


@pytest.mark.parametrize('optimizer', [
    dict(type='SGD', lr=0.1, momentum=0.9),
    dict(type='SGD', lr=0.1),
    dict(type='AdamW', lr=0.1, amsgrad=True),
    dict(type='AdamW', lr=0.1, fused=True),
    dict(type='RMSprop', lr=0.1),
])
def test_every_optimizer_goes_on(tmp_path, optimizer):
    train(tmp_path, 1, optimizer=optimizer)
    assert train(tmp_path, 2, resume=True, optimizer=optimizer).epoch == 2


@pytest.mark.parametrize('name, value', [('scale', float('nan')),
                                         ('_growth_tracker', 'x'),
                                         ('growth_factor', None)])
def test_the_scale_of_the_loss(name, value):
    layer = nn.Linear(1, 1)
    wrapper = SimpleNamespace(
        optimizer=torch.optim.SGD(layer.parameters(), lr=0.1),
        loss_scaler=torch.amp.GradScaler('cpu'))
    state = dict(
        wrapper.optimizer.state_dict(),
        loss_scaler=wrapper.loss_scaler.state_dict())
    check_optimizers(wrapper, state, 0)
    state['loss_scaler'][name] = value
    with pytest.raises(InputError, match=f'loss_scaler.{name} must be like'):
        check_optimizers(wrapper, state, 0)


def test_state_of_another_optimizer(tmp_path):
    train(tmp_path, 1, optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
    with pytest.raises(InputError, match=r'groups\[0\].betas is missing'):
        train(tmp_path, 2, resume=True)


def test_weights_alone_start_a_training(trained, tmp_path):
    """And damaged ones do not, while a test takes what fits in full only."""
    weights = read_checkpoint(trained / 'epoch_2.pth')['state_dict']
    path = tmp_path / 'x.pth'
    runner = Runner(
        Net(),
        str(tmp_path / 'new'),
        custom_hooks=[CheckCheckpointHook()],
        log_level='ERROR',
        experiment_name=f'resume{next(COUNT)}')
    torch.save(dict(state_dict=weights), path)
    runner.load_checkpoint(str(path))
    assert torch.equal(runner.model.layer.weight, weights['layer.weight'])
    bias = weights.pop('layer.bias')
    torch.save(dict(state_dict=weights), path)
    with pytest.raises(InputError, match='missing: layer.bias'):
        runner.load_checkpoint(str(path))
    torch.save(dict(state_dict={**weights, 'layer.bias': bias / 0}), path)
    with pytest.raises(InputError, match="'layer.bias' holds NaN"):
        runner.load_checkpoint(str(path))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match='x.pth.*no whole checkpoint'):
        runner.load_checkpoint(str(path))
