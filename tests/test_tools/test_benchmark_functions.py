# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What others wrote in Python, in the benchmark."""
import json

import pytest


def test_a_function_of_a_file(config, tool, tmp_path):
    """With several classifiers, as others write such networks."""
    pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    out, file = tmp_path / 'latency.json', tmp_path / 'other.py'
    file.write_text('''
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 5)
    def forward(self, images):
        logits = self.linear(images.mean((2, 3)))
        return [logits, logits + 1]
def net():
    return Net()
def number():
    return 1
def broken():
    raise ValueError('of its own')
''')
    _, error = tool('benchmark', config(), '--against', f'{file}:net',
                    '--modes', 'eager', 'onnxruntime', '--size', 32, 32,
                    '--runs', 2, '--warmup', 0, '--train-batch-size', 2,
                    '--out', out)
    assert error is None, error
    result = json.loads(out.read_text())
    assert [(row['name'], row['mode'], len(row['exits']))
            for row in result['compared'][2:]] == [('net', 'eager', 1),
                                                   ('net', 'onnxruntime', 1)]
    assert [row['name'] for row in result['training']][1] == 'net'
    for name, message in ((f'{file}:number', 'must return an nn.Module, got'),
                          (f'{file}:broken', 'of its own'),
                          (f'{file}:none', "no attribute 'none'"),
                          (f'{file}x.py:net', 'there is no file')):
        _, error = tool('benchmark', config(), '--against', name, '--size', 32,
                        32)
        assert message in error and '\n' not in error
