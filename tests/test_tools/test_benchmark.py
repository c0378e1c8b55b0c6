# Copyright (c) mmdynperceiver contributors. All rights reserved.
import json

import pytest


@pytest.mark.parametrize('options', [
    ['--size', '40', '32'],
    [],
    ['--images', 'test', '--batch-size', '2'],
])
def test_table(config, tool, trained, tmp_path, options):
    out = tmp_path / 'latency.json'
    output, error = tool('benchmark', config(), trained / 'epoch_1.pth',
                         '--runs', 2, '--warmup', 0, '--out', out, *options)
    assert error is None, error
    assert 'median (ms)' in output
    result = json.loads(out.read_text())
    assert result['shape'] == [3, 40 if '40' in options else 32, 32]
    assert result['model']['num_exits'] == 4 == len(result['exits'])
    assert result['machine']['device'] and result['machine']['torch']
    for row in result['exits']:
        assert 0 < row['median_ms'] <= row['p90_ms'] and row['macs'] > 0


def test_side_by_side(config, tool, trained, tmp_path):
    """Two configs and a network of torchvision, modes and batch sizes."""
    out, plot = tmp_path / 'latency.json', tmp_path / 'latency.png'
    static = config("model = dict(backbone=dict(_delete_=True, "
                    "type='ConvBackbone', arch='resnet18', width=0.25), "
                    "head=dict(num_classes=3, kinds=('x', )))\n")
    output, error = tool('benchmark', config(), trained / 'epoch_1.pth',
                         '--against', static, '--against',
                         'torchvision:mobilenet_v3_small', '--base',
                         'torchvision:mobilenet_v3_small', '--modes', 'eager',
                         'prepared', '--images', 'test', '--batch-size', 1, 3,
                         '--runs', 6, '--warmup', 1, '--shares', 0.5, 0.25,
                         0.1, 0.15, '--train-batch-size', 2, '--out', out,
                         '--plot', plot)
    assert error is None, error
    assert 'of the ideal' in output and 'training step of 2' in output
    assert plot.read_bytes().startswith(b'\x89PNG')
    result = json.loads(out.read_text())
    rows = result['compared']
    assert [(row['mode'], row['batch_size'], len(row['exits']))
            for row in rows[:5]] == [('eager', 1, 4), ('prepared', 1, 4),
                                     ('eager', 1, 1), ('prepared', 1, 1),
                                     ('eager', 1, 1)]
    assert [row['runs'] for row in rows[::5]] == [6, 3]
    assert rows[4]['exits'][0]['of_base'] == 1
    assert rows[0]['dynamic']['shares'][0] == 0.5
    assert rows[0]['top1']['exits'] == rows[1]['top1']['exits']
    assert rows[0]['peak_memory_mib'] > 0 and rows[1]['peak_memory_mib'] > 0
    assert len(result['training']) == 3
    assert result['exits'] == rows[0]['exits'] and result['batch_size'] == 1


@pytest.mark.parametrize('options, message', [
    (['--against', 'torchvision:none'], 'Unknown model none'),
    (['--against', 'a.py', 'b.pth', 'c'], 'a config and perhaps its'),
    (['--base', 'other', '--size', '32', '32'], '--base must be one of'),
    (['--shares', '0.5', '0.5', '--size', '32', '32'], 'shares'),
    (['--num-images', '1', '--batch-size', '2'], '--num-images is 1'),
    (['--images', 'test', '--batch-size', '7'], 'only 6 test images'),
    (['--out', 'x.txt'], 'must end with .json'),
    (['--cfg-options', 'test_dataloader.dataset.data_root=/nowhere'
      ], "no data folder '/nowhere'"),
])
def test_errors_are_one_line(config, tool, options, message):
    _, error = tool('benchmark', config(), '--runs', 1, *options)
    assert message in error and '\n' not in error


def test_refuses_no_runs(config, tool):
    output, error = tool('benchmark', config(), '--runs', 0)
    assert error == 2 and '--runs must be at least 1, got 0' in output
    output, error = tool('benchmark', config(), '--plot', 'x.png')
    assert error == 2 and '--images test' in output
