# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Trainings that are killed, and the checkpoints from which they go on."""
import errno
import itertools
import multiprocessing
import os
import re
import signal
from collections import deque

import pytest
import torch
from mmengine.hooks import Hook
from tiny_training import checkpoints, train

from mmdynperceiver.compat import checkpoint_files
from mmdynperceiver.compat.checkpoint_files import find_latest_checkpoint
from mmdynperceiver.io.checkpoint_file import read_checkpoint


class Watch(Hook):
    """Note which checkpoints are there whenever one is about to be written."""

    def __init__(self, folder):
        self.folder = folder
        self.seen = []

    def before_save_checkpoint(self, runner, checkpoint):
        self.seen.append(checkpoints(self.folder))


class Stop(Hook):
    """Interrupt a training before an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def before_train_epoch(self, runner):
        if runner.epoch == self.epoch:
            raise KeyboardInterrupt


def state(folder, name):
    """Weights, moments and schedule of a checkpoint, without the log."""
    content = read_checkpoint(folder / name)
    return {
        part: content[part]
        for part in ('state_dict', 'ema_state_dict', 'optimizer',
                     'param_schedulers') if part in content
    }


def assert_same(one, other):
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for name in one:
            assert_same(one[name], other[name])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for pair in zip(one, other):
            assert_same(*pair)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


@pytest.mark.parametrize('average', [False, True])
def test_an_interrupted_training_ends_as_one_without(tmp_path, average):
    train(tmp_path / 'whole', 3, average=average)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / 'parts', 3, hooks=[Stop(1)], average=average)
    assert checkpoints(tmp_path / 'parts') == ['epoch_1.pth']
    runner = train(tmp_path / 'parts', 3, resume=True, average=average)
    assert (runner.epoch, runner.iter) == (3, 6)
    assert_same(
        state(tmp_path / 'parts', 'epoch_3.pth'),
        state(tmp_path / 'whole', 'epoch_3.pth'))
    assert checkpoints(tmp_path / 'parts') == ['epoch_3.pth']


def test_older_checkpoints_go_when_the_new_one_is_there(tmp_path):
    watch = Watch(tmp_path)
    train(tmp_path, 3, hooks=[watch])
    assert watch.seen == [[], ['epoch_1.pth'], ['epoch_2.pth']]
    assert checkpoints(tmp_path) == ['epoch_3.pth']
    train(tmp_path, 5, resume=True, max_keep_ckpts=2)
    assert checkpoints(tmp_path) == ['epoch_4.pth', 'epoch_5.pth']
    assert not list(tmp_path.glob('*.tmp'))


def test_older_best_checkpoints_too(tmp_path):
    watch = Watch(tmp_path)
    train(tmp_path, 2, hooks=[watch], save_best='top1')
    best = [f'best_top1_epoch_{epoch}.pth' for epoch in (1, 2)]
    # After each epoch the checkpoint, the best one, and the first again.
    assert watch.seen == [[], ['epoch_1.pth'], [best[0], 'epoch_1.pth'],
                          [best[0], 'epoch_1.pth'], [best[0], 'epoch_2.pth'],
                          [*best, 'epoch_2.pth']]
    assert checkpoints(tmp_path) == [best[1], 'epoch_2.pth']
    # A run that goes on elsewhere leaves the first one's files alone.
    train(
        tmp_path / 'other',
        3,
        resume=tmp_path / 'epoch_2.pth',
        save_best='top1')
    assert checkpoints(tmp_path) == [best[1], 'epoch_2.pth']
    assert len(checkpoints(tmp_path / 'other')) == 2


def test_by_iteration(tmp_path):
    watch = Watch(tmp_path)
    train(tmp_path, 2, hooks=[watch], by_epoch=False)
    assert watch.seen[-1] == ['iter_3.pth']
    assert checkpoints(tmp_path) == ['iter_4.pth']
    assert find_latest_checkpoint(str(tmp_path)) == str(tmp_path /
                                                        'iter_4.pth')


def test_full_disk_leaves_the_older_checkpoint(tmp_path, monkeypatch):
    sync, calls = os.fsync, itertools.count()

    def full(handle):
        if next(calls) >= 2:  # after the first checkpoint and its name
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match='epoch_2.pth.*No space left'):
        train(tmp_path, 3)
    monkeypatch.undo()
    assert checkpoints(tmp_path) == ['epoch_1.pth']
    assert not list(tmp_path.glob('*.tmp'))
    assert train(tmp_path, 2, resume=True).epoch == 2


def train_until_killed(folder, after):
    """Be killed where the second checkpoint takes its name."""
    replace = os.replace

    def killed(source, target):
        if after or not str(target).endswith('epoch_2.pth'):
            replace(source, target)
        if str(target).endswith('epoch_2.pth'):
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = killed
    train(folder, 3)


@pytest.mark.parametrize('after, left, latest', [
    (False, ['epoch_1.pth'], 1),
    (True, ['epoch_1.pth', 'epoch_2.pth'], 2),
])
def test_killed_while_writing(tmp_path, after, left, latest):
    # Not forked: what other tests have started has threads.
    process = multiprocessing.get_context('spawn').Process(
        target=train_until_killed, args=(tmp_path, after))
    process.start()
    process.join(240)
    assert process.exitcode == -signal.SIGKILL
    assert checkpoints(tmp_path) == left
    assert (tmp_path / 'last_checkpoint').read_text().endswith('epoch_1.pth')
    found = find_latest_checkpoint(str(tmp_path))
    assert found is not None and found.endswith(f'epoch_{latest}.pth')
    assert train(tmp_path, 3, resume=True).epoch == 3
    assert checkpoints(tmp_path) == ['epoch_3.pth']


@pytest.fixture
def work(trained, tmp_path):
    """A copy of it."""
    folder = tmp_path / 'work'
    folder.mkdir()
    for number, name in enumerate(
        ('epoch_1.pth', 'epoch_2.pth', 'last_checkpoint')):
        (folder / name).write_bytes((trained / name).read_bytes())
        os.utime(folder / name, (1000 + number, 1000 + number))
    (folder / 'last_checkpoint').write_text(str(folder / 'epoch_2.pth'))
    return folder


def spoil(path):
    path.write_bytes(path.read_bytes()[:-100])


def empty(path):
    path.write_bytes(b'')


def remove(path):
    path.unlink()


@pytest.mark.parametrize('damage', [spoil, empty, remove])
def test_the_newest_whole_checkpoint_is_taken(work, monkeypatch, damage):
    logged = []
    monkeypatch.setattr(checkpoint_files, '_warn', logged.append)
    damage(work / 'epoch_2.pth')
    assert find_latest_checkpoint(str(work)) == str(work / 'epoch_1.pth')
    assert len(logged) == 1
    assert re.search('skipped.*epoch_2.pth', logged[0])
    damage(work / 'epoch_1.pth')
    assert find_latest_checkpoint(str(work)) is None
    assert logged[-1] == 'no whole checkpoint is left: training starts anew'


@pytest.mark.parametrize('text', ['', '\0' * 40, '\n', None, 'epoch_9.pth'])
def test_last_checkpoint_that_names_none(work, text):
    last = work / 'last_checkpoint'
    last.unlink() if text is None else last.write_text(text)
    assert find_latest_checkpoint(str(work)) == str(work / 'epoch_2.pth')


def test_checkpoints_that_are_not_taken(work):
    """Weights alone, those of an older run, and copies of the same step."""
    read = read_checkpoint(work / 'epoch_2.pth')
    torch.save(dict(state_dict=read['state_dict']), work / 'weights.pth')
    torch.save(read, work / 'best_top1_epoch_9.pth')
    torch.save(read, work / 'copy.pth')
    read['meta']['iter'] = 100
    torch.save(read, work / 'epoch_50.pth')
    os.utime(work / 'epoch_50.pth', (900, 900))
    assert find_latest_checkpoint(str(work)) == str(work / 'epoch_2.pth')


def test_a_folder_that_was_moved(work, tmp_path):
    work.rename(tmp_path / 'moved')
    found = find_latest_checkpoint(str(tmp_path / 'moved'))
    assert found == str(tmp_path / 'moved/epoch_2.pth')
    assert find_latest_checkpoint(str(tmp_path / 'nowhere')) is None


def test_ids_stay_within_their_limit(tmp_path):
    runner = train(tmp_path, 3, max_keep_ckpts=2)
    hook = next(h for h in runner.hooks if hasattr(h, 'keep_ckpt_ids'))
    assert hook.keep_ckpt_ids == deque([2, 3])
    assert hook.max_keep_ckpts == 2
    assert runner.message_hub.get_info('keep_ckpt_ids') == [2, 3]
