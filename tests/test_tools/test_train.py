# Copyright (c) mmdynperceiver contributors. All rights reserved.
import json
import os
import re
import shutil

import pytest
import torch
from tiny import make_image_folder

from mmdynperceiver.io.checkpoint_file import read_checkpoint


def logged(work_dir):
    """What was logged as numbers, in order."""
    files = sorted(work_dir.glob('*/vis_data/scalars.json'))
    return [
        json.loads(line) for file in files
        for line in file.read_text().splitlines()
    ]


def test_trains_and_evaluates(trained):
    steps = [line for line in logged(trained) if 'loss' in line]
    assert len(steps) == 3  # batches of 4, 4 and 1
    names = {'loss_exit0', 'loss_exit3', 'loss_distill2'}
    assert names <= set(steps[0])
    assert all(line['loss'] == line['loss'] for line in steps)  # not NaN
    evaluations = [line for line in logged(trained) if 'dynamic/top1' in line]
    assert len(evaluations) == 1
    assert {'exit0/top1', 'exit3/top1', 'exit3/share',
            'dynamic/macs'} <= set(evaluations[0])
    # And drawn, for every backend of the visualizer.
    assert [path.name for path in trained.glob('*/vis_data/vis_image/*')
            ] == ['accuracy_macs_1.png']


def test_checkpoint_holds_the_average_and_loads_safely(trained):
    checkpoint = read_checkpoint(trained / 'epoch_1.pth')
    assert {'state_dict', 'ema_state_dict', 'optimizer',
            'message_hub'} <= set(checkpoint)
    average = checkpoint['state_dict']['backbone.net.latents']
    trained_on = checkpoint['ema_state_dict']['module.backbone.net.latents']
    assert not torch.equal(average, trained_on)
    assert checkpoint['meta']['dataset_meta']['classes'] == ('ant', 'bee',
                                                             'cow')


def test_resumes(trained, config, tool, tmp_path):
    work_dir = tmp_path / 'work'
    shutil.copytree(trained, work_dir)
    (work_dir / 'last_checkpoint').write_text(str(work_dir / 'epoch_1.pth'))
    output, error = tool('train', config(), '--work-dir', work_dir, '--amp',
                         '--resume', '--cfg-options', 'train_cfg.max_epochs=2')
    assert error is None
    # The schedule of the checkpoint is over after its three steps.
    assert 'ends at step 3 of 6: from there on it stays' in output
    checkpoint = read_checkpoint(work_dir / 'epoch_2.pth')
    assert checkpoint['meta']['iter'] == 6
    assert checkpoint['ema_state_dict']['steps'] == 6


def test_nothing_to_resume_starts_from_the_given_weights(
        trained, config, tool, tmp_path):
    """As a job does that may be stopped at any time, at its first start.

    The weights come without anything else.
    """
    given = tmp_path / 'weights.pth'
    torch.save(read_checkpoint(trained / 'epoch_1.pth')['state_dict'], given)
    output, error = tool('train', config(), '--work-dir', tmp_path, '--resume',
                         '--no-validate', '--cfg-options',
                         f'load_from={given}')
    assert error is None
    assert f'no checkpoint to resume: training starts from {given}' in output
    assert f'Load checkpoint from {given}' in output
    assert (tmp_path / 'epoch_1.pth').is_file()


def test_resumes_from_a_path_without_evaluation(trained, config, tool,
                                                tmp_path):
    _, error = tool('train', config(), '--work-dir', tmp_path, '--no-validate',
                    '--resume', trained / 'epoch_1.pth', '--auto-scale-lr',
                    '--cfg-options', 'train_cfg.max_epochs=2')
    assert error is None
    assert not any('dynamic/top1' in line for line in logged(tmp_path))
    assert os.path.isfile(tmp_path / 'epoch_2.pth')


@pytest.mark.parametrize('change, message', [
    (lambda c: c.pop('message_hub'), 'has no message_hub'),
    (lambda c: c['state_dict'].pop('backbone.net.latents'),
     'missing: backbone.net.latents'),
    (lambda c: c['optimizer']['state'][0].update(exp_avg=torch.zeros(1)),
     r'exp_avg must be a tensor of shape \(16, 16\), got .* \(1,\)'),
    (lambda c: c['ema_state_dict'].pop('steps'), 'missing: steps'),
])
def test_what_does_not_fit_is_not_resumed(trained, config, tool, tmp_path,
                                          change, message):
    content = dict(read_checkpoint(trained / 'epoch_1.pth'))
    change(content)
    torch.save(content, tmp_path / 'x.pth')
    _, error = tool('train', config(), '--work-dir', tmp_path / 'work',
                    '--resume', tmp_path / 'x.pth')
    assert error.startswith('error: cannot resume: ') and '\n' not in error
    assert re.search(message, error)
    assert not list((tmp_path / 'work').glob('*.pth'))


@pytest.mark.parametrize('name, message', [
    ('nothing.pth', 'no checkpoint file at'),
    ('.', 'no checkpoint file at'),
    ('half.pth', 'truncated or damaged'),
])
def test_resuming_from_no_checkpoint(trained, config, tool, tmp_path, name,
                                     message):
    whole = (trained / 'epoch_1.pth').read_bytes()
    (tmp_path / 'half.pth').write_bytes(whole[:len(whole) // 2])
    _, error = tool('train', config(), '--work-dir', tmp_path, '--resume',
                    tmp_path / name)
    assert error.startswith('error: ') and '\n' not in error
    assert message in error


def test_half_a_checkpoint_is_skipped(trained, config, tool, tmp_path):
    """As mmengine left it when it was killed while it wrote."""
    whole = (trained / 'epoch_1.pth').read_bytes()
    (tmp_path / 'epoch_1.pth').write_bytes(whole)
    half = tmp_path / 'epoch_2.pth'
    half.write_bytes(whole[:len(whole) // 2])
    (tmp_path / 'last_checkpoint').write_text(str(half))
    output, error = tool('train', config(), '--work-dir', tmp_path, '--resume',
                         '--no-validate', '--cfg-options',
                         'train_cfg.max_epochs=2')
    assert error is None
    assert read_checkpoint(half)['meta']['epoch'] == 2
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert 'skipped' in log and 'epoch_2.pth' in log
    assert f'Auto resumed from the latest checkpoint {tmp_path}/epoch_1' in log


def test_thresholds_of_the_config_come_with_the_checkpoint(
        config, tool, tmp_path):
    _, error = tool('train', config(), '--work-dir', tmp_path, '--cfg-options',
                    'model.thresholds=[0.7,0.8,0.9]')
    assert error is None
    weights = read_checkpoint(tmp_path / 'epoch_1.pth')['state_dict']
    assert weights['policy._extra_state'].tolist() == [0.7, 0.8, 0.9]


@pytest.mark.parametrize('options, message', [
    (['data_root=/nowhere', 'train_dataloader.dataset.data_root=/nowhere'
      ], "no data folder '/nowhere'"),
    (['model.head.num_classes=4'], 'train data have 3 classes .* has 4'),
    (['model.backbone.arch=vgg'], 'unknown arch.*regnety-800mf'),
    (['model.backbone.depth=3'], 'depth'),
    (['model.thresholds=[1,1]'], 'need 3 thresholds'),
    (['model.type=Unknown'], 'Unknown'),
    (['load_from=/nowhere.pth'], "no checkpoint file at '/nowhere.pth'"),
    (['train_dataloader.dataset.on_broken=hide'], "got 'hide'"),
])
def test_errors_are_one_line(config, tool, tmp_path, options, message):
    _, error = tool('train', config(), '--work-dir', tmp_path / 'work',
                    '--cfg-options', *options)
    assert isinstance(error, str) and error.startswith('error: ')
    assert '\n' not in error
    assert re.search(message, error)
    assert not list(tmp_path.rglob('*.pth'))


def test_work_dir_that_cannot_be_written(config, tool, tmp_path):
    (tmp_path / 'file').write_text('')
    _, error = tool('train', config(), '--work-dir', tmp_path / 'file/work')
    assert 'cannot write into the folder' in error


def test_broken_image_is_named(config, tool, tmp_path):
    root = make_image_folder(tmp_path / 'images', 1)
    (root / 'train/bee/0.png').write_text('text')
    roots = [
        f'{name}_dataloader.dataset.data_root={root}'
        for name in ('train', 'val')
    ]
    _, error = tool('train', config(), '--work-dir', tmp_path, '--cfg-options',
                    *roots, 'train_dataloader.num_workers=1')
    assert error.startswith("error: cannot read image '")
    assert 'train/bee/0.png' in error


def test_small_images_are_refused(config, tool, tmp_path):
    root = make_image_folder(tmp_path / 'images', 1, size=16)
    roots = [
        f'{name}_dataloader.dataset.data_root={root}'
        for name in ('train', 'val')
    ]
    _, error = tool('train', config(), '--work-dir', tmp_path, '--cfg-options',
                    *roots)
    assert error.startswith('error: images must be at least 32 pixels')
