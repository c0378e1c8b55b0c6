# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The CIFAR configs and the one for folders of one's own, end to end."""
import json
import pickle

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain.datasets import CIFAR10, CIFAR100
from tiny import ROOT, make_image_folder

from mmdynperceiver.hosts.build import build_model
from mmdynperceiver.io.checkpoint_file import read_checkpoint

FOLDER_CONFIG = (
    ROOT / 'configs/folder/dyn-perceiver_regnety-800mf_1xb64-30e_folder.py')


def run(tool, config, work_dir, *options):
    """Train for two epochs, then test; returns the metrics."""
    options = ('--work-dir', work_dir, '--cfg-options',
               'default_hooks.logger.interval=1', 'train_cfg.max_epochs=2',
               *options)
    _, error = tool('train', config, *options)
    assert error is None
    out = work_dir / 'results.json'
    _, error = tool('test', config, work_dir / 'epoch_2.pth', '--out', out,
                    *options)
    assert error is None
    return json.loads(out.read_text())['metrics']


@pytest.mark.parametrize('name, num_exits', [('dyn-perceiver', 4),
                                             ('multi-exit', 3), ('static', 1)])
def test_image_folder_of_cifar(tool, tmp_path, name, num_exits):
    root = make_image_folder(tmp_path / 'data', splits=('train', 'test'))
    metrics = run(
        tool, ROOT /
        f'configs/cifar/{name}_resnet22-w025_1xb128-10e_cifar10-folder.py',
        tmp_path / 'work', 'model.head.num_classes=3',
        'train_dataloader.batch_size=4',
        *(f'{split}_dataloader.dataset.data_root={root}'
          for split in ('train', 'val', 'test')))
    assert {f'exit{k}/top1' for k in range(num_exits)} <= set(metrics)
    assert f'exit{num_exits}/share' not in metrics
    assert metrics[f'exit{num_exits - 1}/share'] == 1
    assert metrics['dynamic/macs'] == metrics[f'exit{num_exits - 1}/macs']


@pytest.mark.parametrize('dataset, count', [(CIFAR10, 10), (CIFAR100, 100)])
def test_files_as_cifar_is_published(tool, tmp_path, monkeypatch, dataset,
                                     count):
    """Small files in the format of the archives, through MMPretrain."""
    root = tmp_path / 'data'
    folder = root / dataset.base_folder
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    label_key = 'labels' if count == 10 else 'fine_labels'
    for name, _ in dataset.train_list + dataset.test_list:
        content = {
            'data': rng.integers(0, 256, (4, 3 * 32 * 32)).astype('uint8'),
            label_key: [0, 1, 2, count - 1]
        }
        (folder / name).write_bytes(pickle.dumps(content))
    meta = {dataset.meta['key']: [f'c{k}' for k in range(count)]}
    (folder / dataset.meta['filename']).write_bytes(pickle.dumps(meta))
    # Only the checksums of the real files are left out.
    monkeypatch.setattr(dataset, '_check_integrity', lambda self: True)
    metrics = run(
        tool,
        ROOT / f'configs/cifar/static_resnet18_1xb128-200e_cifar{count}.py',
        tmp_path / 'work', 'model.backbone.width=0.125',
        'train_dataloader.batch_size=4', 'param_scheduler.0.end=1',
        'param_scheduler.1.begin=1',
        *(f'{split}_dataloader.dataset.data_root={root}'
          for split in ('train', 'val', 'test')),
        *(f'{split}_dataloader.num_workers=0'
          for split in ('train', 'val', 'test')),
        *(f'{split}_dataloader.persistent_workers=False'
          for split in ('train', 'val', 'test')))
    # Four images, of which each is right or not, among so many classes.
    assert metrics['exit0/top1'] in (0, 25, 50, 75, 100)
    saved = read_checkpoint(tmp_path / 'work/epoch_2.pth')
    assert len(saved['meta']['dataset_meta']['classes']) == count
    exits = [
        value for name, value in saved['state_dict'].items()
        if 'classifiers.0' in name
    ]
    assert len(exits[-1]) == count


def test_folder_of_ones_own(tool, tmp_path):
    root = make_image_folder(tmp_path / 'data', per_class=2)
    config = tmp_path / 'tiny_folder.py'
    config.write_text(f"""
_base_ = {str(FOLDER_CONFIG)!r}
model = dict(
    backbone=dict(
        _delete_=True, type='DynPerceiverBackbone', arch='resnet18',
        width=0.125, num_latents=16, depth_factor=(0, 0, 0, 0)))
""")
    metrics = run(
        tool, config, tmp_path / 'work', 'model.head.num_classes=3',
        'train_dataloader.batch_size=4',
        *(f'{split}_dataloader.dataset.data_root={root}'
          for split in ('train', 'val', 'test')),
        *(f'{split}_dataloader.num_workers=0'
          for split in ('train', 'val', 'test')))
    assert {'exit0/top1', 'exit3/top1', 'dynamic/top1'} <= set(metrics)


def test_no_thresholds_for_a_static_network(tool, tmp_path):
    config = ROOT / ('configs/cifar/static_resnet22-w025_1xb128-10e_'
                     'cifar10-folder.py')
    root = make_image_folder(tmp_path / 'data', splits=('train', 'test'))
    model = build_model(Config.fromfile(config))
    checkpoint = tmp_path / 'static.pth'
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    _, error = tool(
        'calibrate', config, checkpoint, '--budget-macs', '50%', '--work-dir',
        tmp_path / 'work', '--cfg-options',
        *(f'{split}_dataloader.dataset.data_root={root}'
          for split in ('train', 'val', 'test')))
    assert error.startswith('error: the model has one exit')
