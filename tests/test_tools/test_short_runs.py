# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Trainings much shorter than what the configs are made for."""
import json
import re

import pytest
import torch
from tiny import CONFIG, IMAGENET_CONFIG, ROOT, make_image_folder

from mmdynperceiver.io.checkpoint_file import read_checkpoint
from mmdynperceiver.io.checkpoints import atomic_save

CONFIGS = {
    'folder':
    ROOT / 'configs/folder/dyn-perceiver_regnety-800mf_1xb64-30e_folder.py',
    'imagenet': IMAGENET_CONFIG,
    'digits':
    ROOT / 'configs/demo/dyn-perceiver_resnet22-w025_1xb128_digits.py'
}
# Larger than that for fine-tuning, and no images that are mixed from others.
OPTIONS = [
    'optim_wrapper.optimizer.lr=3e-3', 'model.train_cfg=None',
    'train_dataloader.batch_size=12', 'train_cfg.max_epochs=4',
    'test_dataloader.dataset.split=val'
]


@pytest.fixture(scope='module')
def colours(tmp_path_factory):
    """Three classes that differ in colour: 72 images, and 24 to validate."""
    root = make_image_folder(tmp_path_factory.mktemp('colours'), 24, ['train'])
    return make_image_folder(root, 8, ['val'])


@pytest.mark.parametrize('name', ['folder', 'digits'])
def test_a_small_folder_is_learned(tool, colours, tmp_path, name):
    """The shipped recipe; 24 steps; what the checkpoint holds is right."""
    config = tmp_path / f'short_{name}.py'
    text = CONFIG.replace(str(IMAGENET_CONFIG), str(CONFIGS[name]))
    config.write_text(text + f'''
data_preprocessor = dict(num_classes=3)
for loader in (train_dataloader, val_dataloader, test_dataloader):
    loader['dataset']['data_root'] = {str(colours)!r}
''')
    options = ['--work-dir', tmp_path, '--cfg-options', *OPTIONS]
    output, error = tool('train', config, *options)
    assert error is None, output[-2000:]
    rates = re.findall(r' lr: (\S+)', output)
    assert float(rates[-1]) < 3e-4 < float(rates[8])
    before, _, _ = output.partition('Epoch(train)')
    assert len(before.splitlines()) < 25
    log, = tmp_path.glob('*/*.log')
    assert 'Config:' in log.read_text() and 'Config:' not in output
    if name != 'digits':
        assert 'covers about the last 3 of 24 steps (0.5 of 4' in output
    _, error = tool('test', config, tmp_path / 'epoch_4.pth', '--out',
                    tmp_path / 'out.json', *options)
    assert error is None
    found = json.loads((tmp_path / 'out.json').read_text())['metrics']
    # Chance has 33.
    assert all(found[f'exit{k}/top1'] > 80 for k in range(4)), found
    losses = [float(loss) for loss in re.findall(r' loss: (\S+)', output)]
    assert len(losses) == 24 and sum(losses[-6:]) < 0.6 * sum(losses[:6])
    scores = re.findall(r'exit3/top1: (\S+)', output)
    assert found['exit3/top1'] == pytest.approx(float(scores[-1]), abs=1e-3)


@pytest.mark.parametrize('name', ['imagenet', 'digits'])
def test_one_epoch_of_one_step(tool, images, tmp_path, name):
    config = tmp_path / f'one_{name}.py'
    text = CONFIG.replace(str(IMAGENET_CONFIG), str(CONFIGS[name]))
    config.write_text(text + f'''
data_preprocessor = dict(num_classes=3)
for loader in (train_dataloader, val_dataloader):
    loader['dataset']['data_root'] = {str(images)!r}
''')
    output, error = tool('train', config, '--work-dir', tmp_path,
                         '--cfg-options', 'train_cfg.max_epochs=1',
                         'train_dataloader.batch_size=16')
    assert error is None
    rate = re.search(r' lr: (\S+)', output)[1]
    assert float(rate) > 5e-5
    assert (tmp_path / 'epoch_1.pth').is_file()


def test_new_classes_start_from_a_calibrated_checkpoint(
        trained, config, tool, tmp_path):
    """Its thresholds stay behind, and so do its classifiers."""
    content = dict(read_checkpoint(trained / 'epoch_1.pth'))
    for state, prefix in (('state_dict', ''), ('ema_state_dict', 'module.')):
        weights = content[state] = dict(content[state])
        weights[f'{prefix}policy._extra_state'] = torch.tensor(
            [.5, .6, .7], dtype=torch.float64)
        for name, value in list(weights.items()):
            if re.search(r'classifiers.*(weight|bias)$', name) and \
                    len(value) == 3:
                weights[name] = torch.cat([value, value[:2]])
            if re.search(r'fkt.*weight$', name) and value.ndim == 2:
                weights[name] = torch.cat([value, value[:, :2]], 1)
    path = tmp_path / 'calibrated.pth'
    atomic_save(content, path)
    options = ['--work-dir', tmp_path, '--cfg-options']
    output, error = tool('train', config(), *options, f'load_from={path}')
    assert error is None, error
    assert 'checkpoint has 5 classes and the model has 3' in output
    assert 'thresholds of the checkpoint are left out' in output
    saved = read_checkpoint(tmp_path / 'epoch_1.pth')
    for state, prefix in (('state_dict', ''), ('ema_state_dict', 'module.')):
        values = saved[state][f'{prefix}policy._extra_state']
        assert (values == -1).all()
    assert saved['ema_state_dict']['steps'] == 3
    # To test with it is an error as before.
    _, error = tool('test', config(), path, '--work-dir', tmp_path)
    assert re.search('checkpoint has 5 classes and the model has 3', error)


def test_the_console_is_quiet(trained, config, tool, tmp_path):
    args = config(), trained / 'epoch_1.pth', '--work-dir', tmp_path
    output, _ = tool('test', *args)
    assert 'dynamic' in output and len(output.splitlines()) < 16
    output, _ = tool('test', *args, '--verbose')
    assert 'System environment' in output


def test_options_that_nothing_reads_are_named(config, tool, tmp_path):
    output, _ = tool('train', config('max_epochs = 3\n'), '--work-dir',
                     tmp_path, '--cfg-options', 'max_epochs=1',
                     'trian_cfg.max_epochs=2', 'data_root=/nowhere')
    warnings = [x for x in output.splitlines() if x.startswith('warning: ')]
    assert len(warnings) == 2
    assert 'max_epochs changes nothing' in warnings[0]
    assert 'set train_cfg.max_epochs' in warnings[0]
    assert 'set train_cfg' in warnings[1]


@pytest.mark.parametrize('options, message', [
    (['train_cfg.max_epochs=0'], 'nothing to train: the run has 0 steps'),
    (['train_dataloader.batch_size=16', 'train_dataloader.drop_last=True'
      ], 'nothing to train: the run has 0 steps'),
    (['train_cfg.max_epoch=3'], "keyword argument 'max_epoch'"),
    (['optim_wrapper.optimiser.lr=1'], 'optimiser'),
    (['optim_wrapper.optimizer.learning_rate=1'], 'learning_rate'),
    (['param_scheduler.0.ends=3'], "'ends'"),
    (['val_evaluator.top=3'], "'top'"),
])
def test_options_that_do_not_fit_are_one_line(config, tool, tmp_path, options,
                                              message):
    _, error = tool('train', config(), '--work-dir', tmp_path, '--cfg-options',
                    *options)
    assert isinstance(error, str) and error.startswith('error: ')
    assert message in error and '\n' not in error


def test_a_run_by_iterations(config, tool, tmp_path):
    loop = """
train_cfg = dict(
    _delete_=True, type='IterBasedTrainLoop', max_iters=12, val_interval=12)
default_hooks = dict(
    logger=dict(interval=1), checkpoint=dict(by_epoch=False, interval=12))
log_processor = dict(by_epoch=False)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=500),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=500, end=10000)]
"""
    output, error = tool('train', config(loop), '--work-dir', tmp_path)
    assert error is None
    assert 'covers about the last 2 of 12 steps; validation' in output
    assert 'CosineAnnealingLR from step 2 to 12' in output
    assert (tmp_path / 'iter_12.pth').is_file()
