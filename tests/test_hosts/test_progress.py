# Copyright (c) mmdynperceiver contributors. All rights reserved.
from types import SimpleNamespace

import pytest
from mmengine.registry import HOOKS

from mmdynperceiver.hosts.progress import ProgressBarHook
from mmdynperceiver.progress import progress_bar


class History:

    def __init__(self, value):
        self.value = value

    def current(self):
        return self.value


@pytest.fixture
def runner():
    hub = SimpleNamespace(
        get_scalar=lambda name: History({'train/loss': 1.234}[name]))
    return SimpleNamespace(
        max_iters=10, iter=3, epoch=2, max_epochs=5, message_hub=hub)


def test_bar_follows_training(runner):
    hook = HOOKS.build(dict(type='ProgressBarHook'))
    hook.before_train(runner)
    try:
        hook.after_train_iter(runner, 3)
        task, = hook._bar.tasks
        assert (task.completed, task.total) == (4, 10)
        assert task.description.strip() == 'training  loss 1.23'
    finally:
        hook.after_train(runner)
    assert hook._bar is None


def test_validation_is_one_line(runner, capsys):
    hook = ProgressBarHook()
    hook.before_train(runner)
    hook.after_val_epoch(
        runner, {
            'exit1/top1': 80.,
            'exit0/top1': 70.25,
            'exit0/top5': 99.,
            'dynamic/top1': 75.
        })
    hook.after_run(runner)
    text = ' '.join(capsys.readouterr().out.split())
    assert 'epoch 2 of 5: accuracy of the exits 70.2 80.0 %' in text


def test_silent_outside_training(runner, capsys):
    hook = ProgressBarHook()
    hook.after_train_iter(runner, 0)
    hook.after_val_epoch(runner, {'exit0/top1': 70.})
    hook.after_run(runner)
    assert capsys.readouterr().out == ''


def test_progress_bar_counts():
    bar = progress_bar()
    task = bar.add_task('work', total=2)
    bar.advance(task)
    assert bar.tasks[0].completed == 1
