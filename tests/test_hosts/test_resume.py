# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Trainings that are killed, and checkpoints from which none goes on."""
import errno
import itertools
import multiprocessing
import os
import re
import signal
from collections import deque
from types import SimpleNamespace

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader, Dataset

from mmdynperceiver.compat import checkpoint_files
from mmdynperceiver.compat.checkpoint_files import find_latest_checkpoint
from mmdynperceiver.errors import InputError
from mmdynperceiver.hosts.optimizer_state import check_optimizers
from mmdynperceiver.hosts.resume import CheckCheckpointHook
from mmdynperceiver.io.checkpoint_file import read_checkpoint

COUNT = itertools.count()
SCHEDULES = [dict(type='CosineAnnealingLR', T_max=4, by_epoch=True)]


class Net(BaseModel):

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)
        self.norm = nn.BatchNorm1d(2)

    def forward(self, x, y, mode='tensor'):
        out = self.norm(self.layer(x))
        if mode == 'loss':
            return dict(loss=nn.functional.cross_entropy(out, y))
        return out


class Data(Dataset):
    metainfo = dict(classes=('a', 'b'))

    def __len__(self):
        return 8

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return torch.randn(4, generator=generator), index % 2


class Metric(BaseMetric):
    """Better in each epoch."""

    best = 0

    def process(self, data_batch, data_samples):
        self.results.append(1)

    def compute_metrics(self, results):
        Metric.best += 1
        return dict(top1=float(Metric.best))


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


def checkpoints(folder):
    return sorted(path.name for path in folder.glob('*.pth'))


def train(folder, epochs, resume=False, hooks=(), average=False, **checkpoint):
    """Train in this process; ``resume`` is a path, or True for the latest."""
    torch.manual_seed(0)
    optimizer = checkpoint.pop('optimizer', dict(type='AdamW', lr=0.1))
    schedules = checkpoint.pop('schedules', SCHEDULES)
    validation = dict(
        val_cfg=dict(),
        val_evaluator=[Metric()],
        val_dataloader=DataLoader(Data(), 4)) \
        if 'save_best' in checkpoint else {}
    settings = dict(type='CheckpointHook', interval=1, max_keep_ckpts=1)
    runner = Runner(
        Net(),
        str(folder),
        DataLoader(Data(), 4),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=optimizer),
        param_scheduler=schedules,
        custom_hooks=[
            CheckCheckpointHook(), *hooks,
            *([dict(type='EMAHook')] if average else [])
        ],
        default_hooks=dict(checkpoint=dict(settings, **checkpoint)),
        load_from=None if isinstance(resume, bool) else str(resume),
        resume=bool(resume),
        log_level='ERROR',
        experiment_name=f'resume{next(COUNT)}',
        **validation)
    runner.train()
    return runner


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
    process = multiprocessing.get_context('fork').Process(
        target=train_until_killed, args=(tmp_path, after))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert checkpoints(tmp_path) == left
    assert (tmp_path / 'last_checkpoint').read_text().endswith('epoch_1.pth')
    found = find_latest_checkpoint(str(tmp_path))
    assert found is not None and found.endswith(f'epoch_{latest}.pth')
    assert train(tmp_path, 3, resume=True).epoch == 3
    assert checkpoints(tmp_path) == ['epoch_3.pth']


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A work folder with the checkpoints of two epochs."""
    folder = tmp_path_factory.mktemp('trained')
    train(folder, 2, max_keep_ckpts=3)
    return folder


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


def weight(content):
    return content['state_dict']['layer.weight']


def first_state(content):
    return content['optimizer']['state'][0]


def rename(content):
    content['state_dict']['x'] = content['state_dict'].pop('layer.weight')


REFUSED = {
    'renamed': (rename, 'missing: layer.weight; unexpected: x;'),
    'shape':
    (lambda c: c['state_dict'].update({'layer.weight': weight(c)[:1]}),
     r'layer.weight is \(1, 4\) instead of \(2, 4\)'),
    'NaN': (lambda c: weight(c).fill_(float('nan')),
            "state_dict: damaged weights: 'layer.weight' holds NaN"),
    'bool': (lambda c: c['state_dict'].update({'layer.weight': weight(c) > 0}),
             'layer.weight is bool instead of float32'),
    'no weights': (lambda c: c.update(state_dict=3), 'holds no weights'),
    'no meta': (lambda c: c.pop('meta'), 'has no meta;'),
    'no hub': (lambda c: c.pop('message_hub'), 'has no message_hub;'),
    'no optimizer': (lambda c: c.pop('optimizer'), 'has no optimizer;'),
    'no schedule':
    (lambda c: c.pop('param_schedulers'), 'has no param_schedulers;'),
    'epoch': (lambda c: c['meta'].update(epoch='2'),
              "meta.epoch must be a whole number, got '2'"),
    'step': (lambda c: c['meta'].pop('iter'), 'meta.iter must be'),
    'code': (lambda c: c['meta'].update(config='import os'), 'holds code'),
    'hub': (lambda c: c['message_hub'].pop('log_scalars'), 'no log_scalars'),
    'kept': (lambda c: c['message_hub']['runtime_info'].update(
        keep_ckpt_ids=['../../x']), 'keep_ckpt_ids must be a list of whole'),
    'average': (lambda c: c.update(ema_state_dict={}), 'EMAHook'),
    'moment shape':
    (lambda c: first_state(c).update(exp_avg=torch.zeros(1)),
     r'\[0\].exp_avg must be .* shape \(2, 4\), got a tensor of float32 \(1,'),
    'moment NaN': (lambda c: first_state(c)['exp_avg'].fill_(float('nan')),
                   r"optimizer.state\[0\].exp_avg' holds NaN"),
    'moment missing': (lambda c: first_state(c).pop('exp_avg_sq'),
                       r'state\[0\] has no exp_avg_sq'),
    'moment number': (lambda c: first_state(c).update(exp_avg=3.),
                      r'exp_avg must be a tensor of shape \(2, 4\)'),
    'moments of others':
    (lambda c: c['optimizer']['state'].update({99: {}}), 'of other weights'),
    'no moments': (lambda c: c['optimizer'].update(state={}), 'is empty'),
    'groups': (lambda c: c['optimizer']['param_groups'].append(c['optimizer'][
        'param_groups'][0]), '2 groups of weights instead of 1'),
    'group': (lambda c: c['optimizer']['param_groups'][0]['params'].pop(),
              'not of 4 weights'),
    'rate':
    (lambda c: c['optimizer']['param_groups'][0].update(lr=float('nan')),
     r'optimizer.param_groups\[0\].lr must be like .* got nan'),
    'setting': (lambda c: c['optimizer']['param_groups'][0].pop('betas'),
                r'param_groups\[0\].betas is missing'),
    'switch':
    (lambda c: c['optimizer']['param_groups'][0].update(amsgrad=True),
     r'groups\[0\].amsgrad is True, and False in the'),
    'weight twice':
    (lambda c: c['optimizer']['param_groups'][0].update(params=[0, 1, 2, 2]),
     'twice'),
    'steps': (lambda c: first_state(c)['step'].fill_(-1), 'step is tensor'),
    'seed': (lambda c: c['meta'].update(seed=10**30), 'meta.seed must be'),
    'best': (lambda c: c['message_hub']['runtime_info'].update(best_score='x'),
             "best_score must be a number, got 'x'"),
    'keys': (lambda c: c['message_hub']['resumed_keys'].update(iter=3),
             'resumed_keys are not all True or False'),
    'schedules': (lambda c: c['param_schedulers'].pop(),
                  'must be 1 param_schedulers'),
    'schedule': (lambda c: c['param_schedulers'][0].pop('last_step'),
                 r'param_schedulers\[0\].last_step is missing'),
    'schedule values':
    (lambda c: c['param_schedulers'][0].update(base_values=[]),
     r'base_values must be like \[0.1\], got \[\]'),
    'schedule method': (lambda c: c['param_schedulers'][0].update(step=3),
                        'step is of another kind'),
}


@pytest.mark.parametrize('kind', REFUSED)
def test_what_does_not_fit_is_refused(work, tmp_path, kind):
    change, message = REFUSED[kind]
    content = read_checkpoint(work / 'epoch_2.pth')
    change(content)
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


def test_weights_alone_start_a_training(work, tmp_path):
    """And damaged ones do not, while a test takes what fits in full only."""
    weights = read_checkpoint(work / 'epoch_2.pth')['state_dict']
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
    spoil(path)
    with pytest.raises(ValueError, match='x.pth.*no whole checkpoint'):
        runner.load_checkpoint(str(path))


def test_ids_stay_within_their_limit(tmp_path):
    runner = train(tmp_path, 3, max_keep_ckpts=2)
    hook = next(h for h in runner.hooks if hasattr(h, 'keep_ckpt_ids'))
    assert hook.keep_ckpt_ids == deque([2, 3])
    assert hook.max_keep_ckpts == 2
    assert runner.message_hub.get_info('keep_ckpt_ids') == [2, 3]
