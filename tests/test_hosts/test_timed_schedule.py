# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Runs that end in time."""
from types import SimpleNamespace

import pytest
from mmengine.logging import MessageHub

from mmdynperceiver.hosts import SlicedSampler, TimedScheduleHook


class Clock:
    """Stands still until it is told."""

    now = 100.

    def __call__(self):
        return self.now


def make_runner(name, iteration=0, steps=100):
    return SimpleNamespace(
        iter=iteration,
        max_iters=steps,
        message_hub=MessageHub.get_instance(name),
        train_loop=SimpleNamespace(stop_training=False),
        optim_wrapper=SimpleNamespace(param_groups=[dict(
            lr=1.), dict(lr=0.1)]))


def rates(hook, runner, clock, seconds):
    """The learning rates at a step, when so many seconds have passed."""
    clock.now = 100. + seconds
    hook.before_train_iter(runner, 0)
    return [group['lr'] for group in runner.optim_wrapper.param_groups]


def test_a_fast_machine_follows_the_steps():
    clock, runner = Clock(), make_runner('fast')
    hook = TimedScheduleHook(10, warmup=0.1, clock=clock)
    hook.before_train(runner)
    assert rates(hook, runner, clock, 0)[0] < 0.1
    runner.iter = 10
    assert rates(hook, runner, clock, 1) == pytest.approx([1., 0.1])
    runner.iter = 55
    assert rates(hook, runner, clock, 2) == pytest.approx([0.5, 0.05])
    runner.iter = 100
    assert rates(hook, runner, clock, 3) == pytest.approx([0., 0.])
    hook.after_train_epoch(runner)
    assert not runner.train_loop.stop_training


def test_a_slow_machine_follows_the_clock():
    clock, runner = Clock(), make_runner('slow')
    hook = TimedScheduleHook(1, warmup=0.1, clock=clock)
    hook.before_train(runner)
    runner.iter = 20
    assert rates(hook, runner, clock, 33)[0] == pytest.approx(0.5)
    hook.after_train_epoch(runner)
    assert not runner.train_loop.stop_training
    assert rates(hook, runner, clock, 61)[0] == 0
    hook.after_train_epoch(runner)
    assert runner.train_loop.stop_training


def test_time_counts_over_an_interruption():
    clock, runner = Clock(), make_runner('first')
    hook = TimedScheduleHook(1, clock=clock)
    hook.before_train(runner)
    clock.now += 40
    checkpoint = dict(message_hub=runner.message_hub.state_dict())
    hook.before_save_checkpoint(runner, checkpoint)
    later = make_runner('second')
    later.message_hub.load_state_dict(checkpoint['message_hub'])
    again = TimedScheduleHook(1, clock=clock)
    clock.now += 1e6
    again.before_train(later)
    later.iter = 10
    assert not later.train_loop.stop_training
    clock.now += 21
    again.after_train_epoch(later)
    assert later.train_loop.stop_training


def test_without_a_limit_only_steps_count():
    clock, runner = Clock(), make_runner('free')
    hook = TimedScheduleHook(clock=clock)
    hook.before_train(runner)
    runner.iter = 55
    assert rates(hook, runner, clock, 1e9)[0] == pytest.approx(0.5)


@pytest.mark.parametrize('options', [dict(minutes=0), dict(warmup=1)])
def test_arguments_out_of_range(options):
    with pytest.raises(ValueError, match='must be'):
        TimedScheduleHook(**options)


def test_slices_take_each_sample_equally_often():
    sampler = SlicedSampler(range(10), 4, seed=3)
    slices = []
    for epoch in range(5):
        sampler.set_epoch(epoch)
        slices.append(list(sampler))
        assert len(slices[-1]) == len(sampler) == 4
        assert slices[-1] == list(sampler)
    drawn = sum(slices, [])
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))
    assert drawn[:10] != drawn[10:]
    other = SlicedSampler(range(10), 4, seed=4)
    assert list(other) != slices[0]
    with pytest.raises(ValueError, match='num_samples=0'):
        SlicedSampler(range(10), 0)
