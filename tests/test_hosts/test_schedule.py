# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Learning rates over runs of other lengths than their schedule's."""
import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from tiny import ROOT
from torch import nn

from mmdynperceiver.hosts.schedule import fit_schedule

SCHEDULES = ROOT / 'configs/_base_/schedules'
# Configs, and steps of an epoch at their full size.
SHIPPED = {
    '_base_/schedules/imagenet_bs1024_adamw_300e.py': 1251,
    '_base_/schedules/cifar_bs128_adamw_200e.py': 391,
    '_base_/schedules/clips_b32_adamw_4e.py': 100,
    '_base_/schedules/detection_1x_adamw.py': 7330,
    '_base_/schedules/small_detection.py': 125,
    '_base_/schedules/tsm_sgd_50e.py': 1344,
    'folder/dyn-perceiver_regnety-800mf_1xb64-30e_folder.py': 10,
    'demo/dyn-perceiver_resnet22-w025_1xb128_digits.py': 235,
    'bccd/retinanet_dyn-perceiver-resnet22-w025_1xb8-20e_bccd.py': 26,
}


def read(name):
    return Config.fromfile(str(ROOT / 'configs' / name))


def rates(schedulers, steps, epoch_length):
    """The learning rate of each step, of which 1 is the base."""
    wrapper = build_optim_wrapper(
        nn.Linear(1, 1), dict(optimizer=dict(type='SGD', lr=1.)))
    built = []
    for config in copy.deepcopy(list(schedulers)):
        unit = epoch_length if config.get('by_epoch', True) else 1
        config.setdefault('end', steps // unit)
        built.append(
            PARAM_SCHEDULERS.build(
                config,
                default_args=dict(
                    optimizer=wrapper, epoch_length=epoch_length)))
    found = []
    for step in range(1, steps + 1):
        found.append(wrapper.get_lr()['lr'][0])
        wrapper.optimizer.step()
        for scheduler in built:
            if not scheduler.by_epoch or step % epoch_length == 0:
                scheduler.step()
    return found


@pytest.mark.parametrize('name', SHIPPED)
def test_shipped_schedules_stay_as_they_are(name):
    config = read(name)
    steps = SHIPPED[name] * config.train_cfg.max_epochs
    fitted, text = fit_schedule(config.param_scheduler, steps, SHIPPED[name])
    assert fitted is config.param_scheduler
    assert text is None


@pytest.mark.parametrize('name', SHIPPED)
@pytest.mark.parametrize('epochs, length', [(1, 1), (1, 10), (2, 10), (6, 5),
                                            (3, 40)])
def test_short_runs_warm_up_and_decay(name, epochs, length):
    schedulers = read(name).param_scheduler
    steps = epochs * length
    fitted, _ = fit_schedule(schedulers, steps, length)
    found = rates(fitted, steps, length)
    assert len(found) == steps
    assert max(found) > 0.8
    assert found.index(max(found)) <= steps // 4
    if steps > 5:
        assert found[-1] < 0.3


def test_warms_up_for_a_quarter_at_most():
    schedulers = read(
        '_base_/schedules/imagenet_bs1024_adamw_300e.py').param_scheduler
    fitted, text = fit_schedule(schedulers, 60, 10)
    assert [(s['begin'] if 'begin' in s else 0, s.get('end'))
            for s in fitted] == [(0, 15), (15, None)]
    assert text == ('the schedule of the learning rate is fitted to 60 steps: '
                    'LinearLR from step 0 to 15, CosineAnnealingLR from step '
                    '15 to 60')
    assert schedulers[0].end == 20  # the config stays as it is


@pytest.mark.parametrize('steps', [1, 3, 7])
@pytest.mark.parametrize('warmup', [
    dict(type='LinearLR', start_factor=.01, end=1),
    dict(type='ConstantLR', factor=.01, end=1)
])
def test_no_warm_up_where_there_is_no_room(steps, warmup):
    schedulers = [warmup, dict(type='CosineAnnealingLR', begin=1)]
    fitted, text = fit_schedule(schedulers, steps, 1)
    assert len(fitted) == 2  # a resumed run counts them
    assert 'LR from step 0' not in text.replace('CosineAnnealingLR', '')
    found = rates(fitted, steps, 1)
    assert found[0] == pytest.approx(1)
    assert found == sorted(found, reverse=True)


def test_milestones_follow():
    schedulers = read('_base_/schedules/detection_1x_adamw.py').param_scheduler
    fitted, _ = fit_schedule(schedulers, 600, 100)
    assert fitted[1]['milestones'] == [400, 550]
    assert (fitted[0]['end'], fitted[1]['end']) == (150, 600)


def test_a_schedule_that_ends_too_early_is_named():
    schedulers = [dict(type='CosineAnnealingLR', by_epoch=True, end=3)]
    fitted, text = fit_schedule(schedulers, 50, 10)
    assert fitted is schedulers
    assert 'ends at step 30 of 50' in text


@pytest.mark.parametrize('schedulers', [
    None, [], [dict(type='ExponentialLR', gamma=.9)],
    dict(generator=[dict(type='LinearLR', end=100)])
])
def test_other_schedulers_are_left_alone(schedulers):
    assert fit_schedule(schedulers, 4, 2) == (schedulers, None)


def test_a_single_scheduler():
    fitted, _ = fit_schedule(
        dict(type='CosineAnnealingLR', by_epoch=False, T_max=100), 20, 5)
    assert fitted == [dict(type='CosineAnnealingLR', by_epoch=False, T_max=20)]
    assert torch.tensor(rates(fitted, 20, 5)).isfinite().all()
