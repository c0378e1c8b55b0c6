# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The runner in a process where torch and OpenMMLab cannot be imported."""
import json
import re

BLOCK = '''
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('torch', 'torchvision', 'mmengine',
                                      'mmcv', 'mmpretrain', 'mmaction',
                                      'mmdet', 'onnx', 'rich'):
            raise ImportError(name + ' is blocked')

sys.meta_path.insert(0, Block())
'''
RUN = BLOCK + '''
from mmdynperceiver.deploy.__main__ import main
code = main(sys.argv[1:] or {arguments!r})
assert 'torch' not in sys.modules
sys.exit(code)
'''


def test_the_block_blocks(run_python):
    for module in ('torch', 'mmdynperceiver.core', 'mmengine'):
        result = run_python(BLOCK + f'import {module}')
        assert 'is blocked' in result.stderr


def test_the_one_command_line(resnet, photos, run_python):
    result = run_python(
        BLOCK.replace(", 'rich'", '') +
        'from mmdynperceiver.cli.commands import main\n'
        f'code = main(["predict", {resnet.folder!r}, {str(photos)!r}, '
        '"--exit", "1", "--threads", "1"])\n'
        'assert "torch" not in sys.modules\nsys.exit(code)')
    assert result.returncode == 0, result.stderr
    assert len(re.findall(r'\.(png|jpg|bmp).* 1 ', result.stdout)) == 6


def test_command_line(resnet, photos, tmp_path, run_python, runtime):
    out = tmp_path / 'results.json'
    arguments = [
        resnet.folder,
        str(photos), '--runtime', runtime, '--batch-size', '4', '--threads',
        '1', '--thresholds', '0.6', '0.6', '0.6', '--out',
        str(out)
    ]
    result = run_python(RUN.format(arguments=arguments))
    assert result.returncode == 0, result.stderr
    assert '6 images; left at exits 0 to 3' in result.stdout
    content = json.loads(out.read_text())
    assert content['policy']['thresholds'] == [0.6, 0.6, 0.6]
    assert content['runtime'] == runtime and len(content['results']) == 6
    for entry in content['results']:
        assert entry['path'].startswith(str(photos))
        assert abs(sum(entry['scores']) - 1) < 1e-5
        assert entry['name'] in ('ant', 'bee', 'cow', 'dog', 'elk')
        left = entry['confidence'] >= 0.6 or entry['exit_index'] == 3
        assert left and entry['name'] in result.stdout
