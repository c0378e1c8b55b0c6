# Copyright (c) mmdynperceiver contributors. All rights reserved.
import json
import pickle
import re

import pytest
import torch

from mmdynperceiver.calibration.held_out import save_thresholds
from mmdynperceiver.core import OperatingPoint
from mmdynperceiver.io.checkpoint_file import read_checkpoint


@pytest.fixture
def evaluate(config, tool, trained, tmp_path):
    """Evaluate the trained model; returns printed text and the JSON."""

    def run(*options, checkpoint=trained / 'epoch_1.pth'):
        out = tmp_path / 'results.json'
        output, error = tool('test', config(), checkpoint, '--work-dir',
                             tmp_path, '--out', out, *options)
        assert error is None, error
        return output, json.loads(out.read_text())

    return run


def test_all_exits_without_thresholds(evaluate):
    output, result = evaluate()
    assert result['thresholds'] is None
    metrics = result['metrics']
    assert metrics['exit3/share'] == 1
    assert metrics['dynamic/top1'] == metrics['exit3/top1']
    assert metrics['dynamic/macs'] == metrics['exit3/macs']
    assert 0 < metrics['exit0/macs'] < metrics['exit1/macs']
    for heading in ('top-1 (%)', 'share (%)', 'MACs (M)', 'dynamic'):
        assert heading in output


@pytest.mark.parametrize('options', [[], ['--exit', '1', '--really-stop']])
def test_prepared(evaluate, options):
    _, plain = evaluate(*options)
    _, prepared = evaluate('--mode', 'prepared', *options)
    assert prepared['metrics'] == pytest.approx(plain['metrics'], abs=1e-3)


def test_stopping_equals_the_replay(evaluate, tmp_path):
    dump = tmp_path / 'predictions.pkl'
    _, everything = evaluate('--dump', dump)
    samples = pickle.loads(dump.read_bytes())
    assert len(samples) == 6
    # Thresholds between the confidences, so that several exits are used.
    thresholds = [
        torch.stack([s['exit_logits'][k].softmax(0).max()
                     for s in samples]).median().item() + 1e-4
        for k in range(3)
    ]
    options = ['--thresholds', *map(str, thresholds)]
    _, replayed = evaluate(*options)
    _, stopped = evaluate(*options, '--really-stop')
    shares = [replayed['metrics'][f'exit{k}/share'] for k in range(4)]
    assert 0 < shares[0] < 1
    assert replayed['thresholds'] == thresholds
    for name in ('exit0/top1', 'exit3/top1'):
        assert replayed['metrics'][name] == everything['metrics'][name]
        assert name not in stopped['metrics']
    for name, value in stopped['metrics'].items():
        if name.startswith(('exit', 'dynamic')):
            assert replayed['metrics'][name] == pytest.approx(value), name


def test_fixed_exit(evaluate):
    metrics = evaluate('--exit', 1)[1]['metrics']
    assert metrics['exit1/share'] == 1
    assert metrics['dynamic/macs'] == metrics['exit1/macs']


def test_precedence_of_thresholds(evaluate, trained, tmp_path):
    """The checkpoint's count, until the config or the command line speak."""
    content = dict(read_checkpoint(trained / 'epoch_1.pth'))
    for state, prefix in (('state_dict', ''), ('ema_state_dict', 'module.')):
        content[state] = dict(content[state])
        content[state][f'{prefix}policy._extra_state'] = torch.tensor(
            [2., 0., 0.], dtype=torch.float64)
    path = tmp_path / 'calibrated.pth'
    torch.save(content, path)
    _, result = evaluate(checkpoint=path)
    assert result['thresholds'] == [2, 0, 0]
    assert result['metrics']['exit1/share'] == 1
    file = tmp_path / 't.json'
    save_thresholds(file, (0.5, 0.6, 0.7))
    by_config = ('--cfg-options', f'model.thresholds={file}')
    _, result = evaluate(*by_config, checkpoint=path)
    assert result['thresholds'] == [0.5, 0.6, 0.7]
    _, result = evaluate('--exit', 0, *by_config, checkpoint=path)
    assert result['metrics']['exit0/share'] == 1
    _, result = evaluate('--thresholds-file', file, checkpoint=path)
    assert result['thresholds'] == [0.5, 0.6, 0.7]
    assert (result['criterion'], result['temperature']) == ('max_prob', None)
    OperatingPoint((2, 0.5, 0), 'patience').save(file)
    _, result = evaluate('--thresholds-file', file, checkpoint=path)
    assert (result['thresholds'], result['criterion']) == ([2, 0.5,
                                                            0], 'patience')
    assert result['metrics']['exit0/share'] == 0


@pytest.mark.parametrize('options, message', [
    (['--thresholds', '0.5', '0.5'], 'need 3 thresholds.* got 2'),
    (['--thresholds', '0.5', '0.5', 'nan'], 'exit 2 .*got nan'),
    (['--thresholds', '-0.5', '0.5', '1'], 'exit 0 .*got -0.5'),
    (['--thresholds-file', 'nowhere.json'], "no thresholds file at 'nowhere"),
    (['--exit', '4'], 'one of 0 to 3.* got 4'),
    (['--exit', '-1'], 'got -1'),
    (['--out', 'results.txt'], 'must end with .json'),
    (['--dump', 'results.txt'], 'must end with .pkl'),
    (['--cfg-options', 'model.head.num_classes=4'
      ], 'checkpoint has 3 classes and the model has 4'),
    (['--cfg-options', 'model.backbone.num_latents=32'],
     r'wrong shape: backbone.net.latents is \(16, 16\) instead of \(32, 16\)'),
    (['--cfg-options', 'model.head.fkt=False'], 'unexpected: head.exits.fkt'),
    (['--cfg-options', 'test_dataloader.dataset.data_root=/nowhere'
      ], "no data folder '/nowhere'"),
])
def test_errors_are_one_line(config, tool, trained, tmp_path, options,
                             message):
    _, error = tool('test', config(), trained / 'epoch_1.pth', '--work-dir',
                    tmp_path, *options)
    assert isinstance(error, str) and error.startswith('error: ')
    assert '\n' not in error
    assert re.search(message, error)


@pytest.mark.parametrize('content, message', [
    (None, 'no checkpoint file'),
    (b'', 'read safely'),
    (b'text', 'read safely'),
])
def test_unreadable_checkpoint_is_named(config, tool, tmp_path, content,
                                        message):
    path = tmp_path / 'broken.pth'
    if content is not None:
        path.write_bytes(content)
    _, error = tool('test', config(), path, '--work-dir', tmp_path)
    assert re.search(f'{message}', error) and 'broken.pth' in error


def test_one_choice_of_thresholds(config, tool, trained):
    output, error = tool('test', config(), trained / 'epoch_1.pth', '--exit',
                         1, '--thresholds', 1, 1, 1)
    assert error == 2 and 'not allowed with' in output
