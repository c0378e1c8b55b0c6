# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A network and a training of two steps an epoch."""
import itertools

import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader, Dataset

from mmdynperceiver.hosts.resume import CheckCheckpointHook

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
