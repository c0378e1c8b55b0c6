# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Networks of other families, from a config to a deployed operating point."""
import json
import re

import pytest
from tiny import ROOT, split_lines
from tiny_networks import MSDNET

from mmdynperceiver.deploy import Manifest

PAGE = (ROOT / 'docs/protocol.md').read_text()
EXAMPLE, MODEL = re.findall(r'```python\n(.*?)```', PAGE, re.DOTALL)
BACKBONES = dict(
    msdnet=dict(type='MSDNetBackbone', **MSDNET),
    # The page's own network, of the page's own config.
    example=None)


@pytest.fixture(scope='module')
def lines(tmp_path_factory):
    """What a config of the tiny one says otherwise."""
    place = tmp_path_factory.mktemp('protocol')
    (place / 'two_exits.py').write_text(EXAMPLE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(place)
        yield lambda backbone: (
            "custom_imports = dict(imports=['mmdynperceiver.classification', "
            "'two_exits'], allow_failed_imports=False)\n"
            f'backbone = {backbone}\n')


@pytest.mark.parametrize('name', BACKBONES)
def test_trained_calibrated_tested_exported(name, lines, config, tool, folder,
                                            tmp_path):
    backbone = BACKBONES[name]
    if backbone is None:
        found: dict = {}
        exec(MODEL, found)
        backbone = found['model']['backbone']
        assert found['model']['head']['type'] == 'DynPerceiverHead'
    text = lines(backbone) + '''
model = dict(
    backbone=dict(_delete_=True, **backbone),
    head=dict(num_classes=3, loss_weights=dict(type='equal')))
optim_wrapper = dict(optimizer=dict(lr=1e-2))
del backbone
''' + split_lines(
        folder, test='val')
    checkpoint = tmp_path / 'work/epoch_1.pth'
    where = ['--work-dir', tmp_path / 'work']
    for command in (['train', config(text), *where], [
            'calibrate',
            config(text), checkpoint, '--budget-macs', '90%', '--solver',
            'shares', *where, '--out', tmp_path / 'point.json'
    ], [
            'test',
            config(text), checkpoint, *where, '--thresholds-file',
            tmp_path / 'point.json', '--really-stop', '--out',
            tmp_path / 'tested.json'
    ], [
            'export',
            config(text), checkpoint, tmp_path / 'exported', '--size', 32, 32,
            '--thresholds-file', tmp_path / 'point.json'
    ]):
        output, error = tool(*command)
        assert error is None, (error, output)
    expected = json.loads((tmp_path / 'point.json').read_text())['expected']
    metrics = json.loads((tmp_path / 'tested.json').read_text())['metrics']
    assert metrics['dynamic/macs'] == pytest.approx(expected['macs'])
    assert metrics['dynamic/top1'] == pytest.approx(100 * expected['accuracy'])
    macs = Manifest.load(tmp_path / 'exported').macs_per_exit
    assert macs[0] < expected['macs'] < macs[-1]
