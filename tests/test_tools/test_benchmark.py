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


@pytest.mark.parametrize('options, message', [
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
