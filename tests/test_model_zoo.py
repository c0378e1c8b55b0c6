# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Metafiles and tables: complete, up to date, and the published figures."""
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from torchvision.models import get_model_weights

pytest.importorskip('mmpretrain')

ROOT = Path(__file__).resolve().parents[1]
TSM = 'dyn-perceiver-tsm_in1k-pre-resnet50-w0625-n{}_8xb8-1x1x8-50e_sthv1-rgb'
# MACs to the last exit or to each, in millions, as far as they are given.
PUBLISHED_MACS = {
    'dyn-perceiver_regnety-800mf_8xb128_in1k': (459, 1065, 1228, 1298),
    'dyn-perceiver_resnet50-w0375_8xb128_in1k': (619, 1007, 1122, 1190),
    'dyn-perceiver_mobilenetv3-large-w075_8xb128-600e_in1k':
    (98, 182, 207, 266),
    TSM.format(128): (25_600, ),
    TSM.format(192): (28_700, ),
    'retinanet_dyn-perceiver-regnety-1600mf_fpn_1x_coco': (37_400, ),
}
# The feature branch alone, and torchvision's name of it.
STATIC = {
    'static_regnety-800mf_8xb128_in1k': 'regnet_y_800mf',
    'static_convnext-tiny_8xb128_in1k': 'convnext_tiny',
}


def read_models():
    """All models of the files that model-index.yml imports, by name."""
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    assert index['Import'] == sorted(
        str(path.relative_to(ROOT))
        for path in ROOT.glob('configs/*/metafile.yml'))
    models = {}
    for name in index['Import']:
        content = yaml.safe_load((ROOT / name).read_text())
        collections = {c['Name'] for c in content['Collections']}
        for model in content['Models']:
            assert model['In Collection'] in collections
            assert model['Name'] == Path(model['Config']).stem not in models
            models[model['Name']] = model
    return models


def macs_of(model):
    metadata = model['Metadata']
    exits = metadata.get('Exit FLOPs', metadata['FLOPs'])
    return [int(x) for x in str(exits).split(',')]


def test_figures_and_tables_are_up_to_date():
    tool = subprocess.run([sys.executable, 'tools/dev/model_zoo.py'],
                          cwd=ROOT,
                          capture_output=True,
                          text=True)
    assert tool.returncode == 0, tool.stdout + tool.stderr


def test_figures_are_the_published():
    """The counted figures, which the test above compares with the configs."""
    models = read_models()
    for name, macs in PUBLISHED_MACS.items():
        found = macs_of(models[name])[-len(macs):]
        for got, want in zip(found, macs):
            # Half a per cent, and half of the last digit given.
            assert abs(got / 1e6 - want) <= 0.005 * want + 0.5, name
    for name, arch in STATIC.items():
        facts = get_model_weights(arch).DEFAULT.meta
        assert models[name]['Metadata']['Parameters'] == facts['num_params']
        assert macs_of(models[name])[0] == pytest.approx(
            facts['_ops'] * 1e9, rel=0.005)


def test_a_stale_table_is_seen(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'tools/dev')
    import model_zoo
    folder = ROOT / 'configs/imagenet'
    content = yaml.safe_load((folder / 'metafile.yml').read_text())
    readme = (folder / 'README.md').read_text()
    assert model_zoo.with_table(readme, content) == readme
    content['Models'][0]['Metadata']['Parameters'] *= 2
    assert model_zoo.with_table(readme, content) != readme


def test_every_config_is_in_the_metafile_of_its_folder():
    found = sorted(model['Config'] for model in read_models().values())
    assert found == sorted(
        str(path.relative_to(ROOT)) for path in ROOT.glob('configs/*/*.py')
        if path.with_name('metafile.yml').exists())
