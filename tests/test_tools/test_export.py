# Copyright (c) mmdynperceiver contributors. All rights reserved.
import importlib.util
import json
import pickle
import re

import numpy as np
import pytest
import torch

from mmdynperceiver.core import OperatingPoint
from mmdynperceiver.io.checkpoint_file import read_checkpoint

if not all(map(importlib.util.find_spec, ('onnx', 'onnxruntime'))):
    pytest.skip('onnx or onnxruntime is missing', allow_module_level=True)

SIZE = ('--size', '32', '32')


@pytest.fixture
def manifest(config, tool, trained, tmp_path):
    """Export the trained model; returns printed text and the manifest."""

    def run(*options):
        folder = tmp_path / 'out'
        output, error = tool('export', config(), trained / 'epoch_1.pth',
                             folder, *SIZE, *options)
        assert error is None, error
        return output, json.loads((folder / 'manifest.json').read_text())

    return run


def test_runner_agrees_with_the_test_tool(config, tool, trained, images,
                                          tmp_path):
    from mmdynperceiver.deploy import Runner
    thresholds = ('0.34', '0.34', '0.34')
    output, error = tool('export', config(), trained / 'epoch_1.pth',
                         tmp_path / 'out', *SIZE, '--thresholds', *thresholds)
    assert error is None and '4 graphs and a manifest' in output
    dump = tmp_path / 'predictions.pkl'
    _, error = tool('test', config(), trained / 'epoch_1.pth', '--work-dir',
                    tmp_path, '--dump', dump, '--thresholds', *thresholds)
    assert error is None
    expected = pickle.loads(dump.read_bytes())
    results = Runner.load(tmp_path / 'out')(images / 'val', batch_size=4)
    assert len(results) == len(expected) == 6
    for result, sample in zip(results, expected):
        assert result.exit_index == sample['exit_index']
        np.testing.assert_allclose(
            result.scores, sample['pred_score'], atol=1e-3)
        assert result.macs == sample['macs']
        assert result.name == ('ant', 'bee', 'cow')[result.label]


def test_operating_point_and_sources(manifest, tmp_path):
    file = tmp_path / 'point.json'
    OperatingPoint((0.1, 0.2, 0.3), 'entropy', (1, 2, 3, 4)).save(file)
    names = tmp_path / 'classes.txt'
    names.write_text('\ufeffone\r\ntwo\r\nthree\r\n\r\n')
    output, content = manifest('--thresholds-file', file, '--classes', names)
    assert content['policy'] == dict(
        thresholds=[0.1, 0.2, 0.3],
        criterion='entropy',
        temperature=[1, 2, 3, 4])
    assert content['classes'] == ['one', 'two', 'three']
    assert content['source']['checkpoint'] == 'epoch_1.pth'
    assert content['preprocessing']['decoder'] == 'pillow'
    assert 'without thresholds' not in output


def test_thresholds_of_config_and_checkpoint(config, tool, trained, tmp_path):
    content = dict(read_checkpoint(trained / 'epoch_1.pth'))
    content['state_dict'] = dict(content['state_dict'])
    content['state_dict']['policy._extra_state'] = torch.tensor(
        [.1, .2, .3], dtype=torch.float64)
    path = tmp_path / 'calibrated.pth'
    torch.save(content, path)
    by_config = ('--cfg-options', 'model.thresholds=[.4,.5,.6]')
    for name, options, expected in (
        ('a', (), [.1, .2, .3]),
        ('b', by_config, [.4, .5, .6]),
        ('c', ('--cfg-options', 'model.exit_index=1'), [2, 0, 0]),
        ('d', ('--exit', 2, *by_config), [2, 2, 0]),
    ):
        _, error = tool('export', config(), path, tmp_path / name, *SIZE,
                        *options)
        assert error is None
        manifest = json.loads((tmp_path / name / 'manifest.json').read_text())
        assert manifest['policy']['thresholds'] == expected


def test_an_older_operator_set(manifest):
    assert manifest('--opset', '20')[1]['versions']['opset'] == 20


def test_says_that_there_are_no_thresholds(manifest):
    output, content = manifest()
    assert content['policy']['thresholds'] is None
    assert 'without thresholds every image runs to the last exit' in output


@pytest.mark.parametrize('options, message', [
    ((), '--size HEIGHT WIDTH'),
    ((*SIZE, '--thresholds', '0.5'), 'need 3 thresholds'),
    ((*SIZE, '--classes', 'nowhere.txt'), "class names 'nowhere.txt': No"),
    (('--size', '16', '16'), 'at least 32 pixels'),
    ((*SIZE, '--cfg-options', 'model.head.num_classes=4'),
     'checkpoint has 3 classes'),
])
def test_errors_are_one_line(config, tool, trained, tmp_path, options,
                             message):
    out = tmp_path / 'out'
    _, error = tool('export', config(), trained / 'epoch_1.pth', out, *options)
    assert isinstance(error, str) and '\n' not in error
    assert re.search(message, error), error
    assert not out.exists()


def test_refuses_a_folder_with_something_in_it(config, tool, trained,
                                               tmp_path):
    (tmp_path / 'mine.txt').write_text('mine')
    _, error = tool('export', config(), trained / 'epoch_1.pth', tmp_path,
                    *SIZE)
    assert 'something at' in error
    assert [path.name for path in tmp_path.iterdir()] == ['mine.txt']
