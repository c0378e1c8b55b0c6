# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The notebook in docs/ works as it stands, on fewer images."""
import json
from pathlib import Path

import matplotlib
import pytest

pytest.importorskip('mmpretrain')
ROOT = Path(__file__).resolve().parents[2]


def test_from_images_to_a_deployed_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('MINUTES', '0.2')
    monkeypatch.setenv('COUNT', '400')
    matplotlib.use('Agg')
    notebook = json.loads(
        (ROOT / 'docs/notebooks/own_images.ipynb').read_text())
    names = {}
    for cell in notebook['cells']:
        if cell['cell_type'] == 'code':
            exec(compile(''.join(cell['source']), 'cell', 'exec'), names)
    output = capsys.readouterr().out
    assert '400 images of 10 classes' in output
    assert 'photos/0/0.png: class ' in output
    assert names['result'].macs <= 0.55 * names['result'].last_macs
    assert len(names['runner'].manifest.classes) == 10
