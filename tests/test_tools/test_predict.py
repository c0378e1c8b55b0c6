# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""One command for a checkpoint, a saved folder and an exported one."""
import csv
import json
import os
import re
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import png_header

from mmdynperceiver.core import OperatingPoint
from mmdynperceiver.io.checkpoint_file import read_checkpoint

THRESHOLDS = ('--thresholds', '0.6', '0.6', '0.6')
SIZE = ('--size', '32', '32')


@pytest.fixture
def predict(tool):
    """Run the tool; returns its output and error line."""
    return lambda *args: tool('predict', *args)


@pytest.fixture(scope='module')
def forms(config, tool, trained, tmp_path_factory):
    """The same trained network in each form."""
    root = tmp_path_factory.mktemp('forms')
    path = trained / 'epoch_1.pth'
    found = dict(checkpoint=path)
    for name, kind, needed in (('saved',
                                'model_converters/checkpoint_to_folder',
                                'safetensors'), ('exported', 'export',
                                                 'onnxruntime')):
        pytest.importorskip(needed)
        _, error = tool(kind, config(), path, root / name, *SIZE, *THRESHOLDS)
        assert error is None
        found[name] = root / name
    return found


def test_all_forms_say_the_same(forms, predict, tool, config, images,
                                tmp_path):
    """The checkpoint by the config that it carries."""
    out = tmp_path / 'demo.json'
    _, error = tool('image_demo', config(), forms['checkpoint'],
                    images / 'val', '--out', out, *THRESHOLDS)
    assert error is None
    expected = json.loads(out.read_text())
    assert len(expected) == 6
    for name, model in forms.items():
        out = tmp_path / f'{name}.json'
        # The folders carry the thresholds.
        options = THRESHOLDS if name == 'checkpoint' else ()
        output, error = predict(model, images / 'val', '--out', out, *options)
        assert error is None, name
        assert 'MACs (M)' in output
        rows = json.loads(out.read_text())
        for row, want in zip(rows, expected, strict=True):
            for key in ('image', 'exit_index', 'macs', 'all_macs'):
                assert row[key] == want[key], (name, key)
            assert row['confidence'] == pytest.approx(
                want['confidence'], abs=1e-3)
            assert [c['name'] for c in row['classes']
                    ] == [c['name'] for c in want['classes']]


@pytest.mark.parametrize('form', ['checkpoint', 'saved', 'exported'])
def test_policies_of_each_form(forms, form, predict, images, tmp_path):
    point, out = tmp_path / 'point.json', tmp_path / 'out.jsonl'
    OperatingPoint((2, 0, 0)).save(point)
    for options, expected in ((('--thresholds-file', point), 1),
                              (('--exit', '2'), 2), (('--thresholds', '0', '0',
                                                      '0'), 0)):
        _, error = predict(forms[form], images / 'val/bee/0.png', '--out', out,
                           '--topk', '1', *options)
        assert error is None
        row = json.loads(out.read_text())
        assert row['exit_index'] == expected and len(row['classes']) == 1
    _, error = predict(forms[form], images / 'val', '--thresholds', '0.5')
    assert '3 thresholds' in error and '\n' not in error


@pytest.mark.parametrize('form', ['checkpoint', 'saved', 'exported'])
def test_broken_files_and_pictures(forms, form, predict, images, tmp_path):
    folder, out = tmp_path / 'mixed', tmp_path / 'out.csv'
    shutil.copytree(images / 'val/ant', folder / 'a')
    shutil.copytree(images / 'val/bee', folder / 'b')
    (folder / 'broken.png').write_bytes(b'broken')
    (folder / 'bomb.png').write_bytes(png_header(65535, 65535))
    output, error = predict(forms[form], folder, '--out', out, '--draw',
                            tmp_path / 'drawn')
    assert error is None and '2 could not be read' in output
    with open(out, newline='') as file:
        rows = list(csv.DictReader(file))
    assert sorted(
        os.path.basename(row['image']) for row in rows
        if row['error']) == ['bomb.png', 'broken.png']
    assert sorted(os.listdir(
        tmp_path / 'drawn')) == ['0-2.png', '0.png', '1-2.png', '1.png']
    # The image in larger squares, above its strip.
    drawn = np.asarray(Image.open(tmp_path / 'drawn/0.png'))
    pixels = np.asarray(Image.open(folder / 'a/0.png'))
    assert np.array_equal(drawn[5:320:10, 5:320:10], pixels)
    assert drawn.shape[0] > 340 and drawn[322, 5].tolist() != [255] * 3
    _, error = predict(forms[form], folder, '--draw', tmp_path / 'drawn')
    assert 'something at' in error


def test_parquet(forms, predict, images, tmp_path):
    pyarrow = pytest.importorskip('pyarrow.parquet')
    (tmp_path / 'broken.png').write_bytes(b'broken')
    out = tmp_path / 'out.parquet'
    _, error = predict(forms['saved'], images / 'val', tmp_path / 'broken.png',
                       '--out', out)
    assert error is None
    rows = pyarrow.read_table(out).to_pylist()
    assert len(rows) == 7 and rows[0]['name'] in ('ant', 'bee', 'cow')
    assert rows[0]['classes'][0]['score'] == rows[0]['score']
    assert rows[6]['error'] and rows[6]['macs'] is None


def test_jobs_go_on(forms, predict, images, tmp_path):
    parquet = pytest.importorskip('pyarrow.parquet')
    (tmp_path / 'broken.png').write_bytes(b'broken')
    (tmp_path / 'list').write_text('broken.png\n')
    out = tmp_path / 'job'
    job = (forms['exported'], images / 'val', f'@{tmp_path / "list"}', '--out',
           out, '--part-size', '3', '--workers', '1')
    for again in (False, True):
        output, error = predict(*job)
        assert error is None and '6 images; left at exits' in output
        assert ('going on: 7 of 7' in output) == again
        assert '1 could not be read' in output
    rows = parquet.read_table(out / 'parts').to_pylist()
    assert [row['index'] for row in rows] == list(range(7))
    assert rows[0]['path'] == str(images / 'val/ant/0.png')
    assert rows[6]['error'] and 'broken.png' in (out /
                                                 'broken.csv').read_text()
    for options, message in ((('--exit', '1'), 'another job: its policy'),
                             (('--draw', tmp_path / 'drawn'), '--draw'),
                             (('--on-broken', 'raise', '--out',
                               tmp_path / 'other'), 'cannot read')):
        _, error = predict(*job, *options)
        assert message in error and '\n' not in error
    _, error = predict(*job[:2], '--engine', 'ray')
    assert 'add --out FOLDER' in error
    _, error = predict(forms['saved'], *job[1:])
    assert 'exported folder' in error


def test_parquet_without_pyarrow_is_said_first(predict, forms, images,
                                               monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'pyarrow', None)
    _, error = predict(forms['saved'], images / 'val', '--out',
                       tmp_path / 'out.parquet')
    assert 'pip install pyarrow' in error and '\n' not in error


def test_checkpoints_whose_config_is_none(forms, predict, config, images,
                                          tmp_path):
    content = dict(read_checkpoint(forms['checkpoint']))
    marker = tmp_path / 'ran'
    for cfg, message in ((None, 'carries no config.*--config'),
                         (f'a = open({str(marker)!r}, "w")',
                          'no plain data.*--config'),
                         ('import os', 'no plain data'), ('model = (',
                                                          'no plain data')):
        path = tmp_path / 'model.pth'
        torch.save(dict(content, meta=dict(cfg=cfg)), path)
        _, error = predict(path, images / 'val')
        assert isinstance(error, str) and '\n' not in error
        assert re.search(message, error)
    assert not marker.exists()
    _, error = predict(path, images / 'val/ant', '--config', config())
    assert error is None


@pytest.mark.parametrize('model, message', [
    ('none.pth', 'no checkpoint file'),
    ('nowhere', "no folder 'nowhere'.*owner/repository"),
    ('.', 'has no config.json'),
])
def test_what_is_no_network(predict, images, model, message, tmp_path,
                            monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, error = predict(model, images / 'val')
    assert re.search(message, error) and '\n' not in error
