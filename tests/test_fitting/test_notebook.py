# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The notebook in docs/ works as it stands, on fewer images."""
import json
from pathlib import Path

import pytest
from tiny import load_tool

pytest.importorskip('mmpretrain')
pytest.importorskip('matplotlib')
NOTEBOOK = Path(__file__).resolve().parents[2] / \
    'docs/notebooks/own_images.ipynb'


def test_from_images_to_a_deployed_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('MINUTES', '0.2')
    monkeypatch.setenv('COUNT', '400')
    notebook, names = load_tool('dev/run_notebook').run(NOTEBOOK)
    cells = [c for c in notebook['cells'] if c['cell_type'] == 'code']
    texts = [
        ''.join(text for output in cell['outputs']
                for text in output.get('text', ())) for cell in cells
    ]
    assert '400 images of 10 classes' in texts[0]
    assert 'photos/0/0.png: class ' in texts[2]
    assert 'image/png' in cells[-1]['outputs'][0]['data']
    assert names['result'].macs <= 0.55 * names['result'].last_macs
    assert len(names['runner'].manifest.classes) == 10


def test_readers_see_what_came_of_it():
    notebook = json.loads(NOTEBOOK.read_text())
    cells = [c for c in notebook['cells'] if c['cell_type'] == 'code']
    assert [c['execution_count'] for c in cells] == [1, 2, 3, 4]
    assert all(cell['outputs'] for cell in cells)
    assert NOTEBOOK.stat().st_size < 250_000
