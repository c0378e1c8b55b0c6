# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What is in image files, without an export."""
import csv
import json
import os
import pickle
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from tiny import ROOT, png_header

from mmdynperceiver.core import OperatingPoint

THRESHOLDS = ('0.34', '0.34', '0.34')


@pytest.fixture
def demo(config, tool, trained):
    """Run the tool on the trained model."""

    def run(*args, more=''):
        return tool('image_demo', config(more), trained / 'epoch_1.pth', *args)

    return run


def test_agrees_with_the_test_tool(config, demo, tool, trained, images,
                                   tmp_path):
    dump, out = tmp_path / 'predictions.pkl', tmp_path / 'out.json'
    _, error = tool('test', config(), trained / 'epoch_1.pth', '--work-dir',
                    tmp_path, '--dump', dump, '--thresholds', *THRESHOLDS)
    assert error is None
    expected = pickle.loads(dump.read_bytes())
    output, error = demo(images / 'val', '--out', out, '--thresholds',
                         *THRESHOLDS)
    assert error is None
    rows = json.loads(out.read_text())
    assert len(rows) == len(expected) == 6
    for row, sample in zip(rows, expected):
        assert row['exit_index'] == sample['exit_index']
        assert row['macs'] == sample['macs'] <= row['all_macs']
        assert row['confidence'] == pytest.approx(row['classes'][0]['score'])
        scores = {c['label']: c['score'] for c in row['classes']}
        np.testing.assert_allclose([scores[k] for k in range(3)],
                                   sample['pred_score'],
                                   atol=1e-5)
        assert [c['name'] for c in row['classes']] == [
            ('ant', 'bee', 'cow')[c['label']] for c in row['classes']
        ]
    assert 'MACs (M)' in output and row['classes'][0]['name'] in output


@pytest.mark.parametrize('to_rgb', [True, False])
def test_pipelines_without_files_get_rgb(demo, images, tmp_path, to_rgb):
    """As the data set of CIFAR-10 gives its pixels."""
    out, image = tmp_path / 'out.json', images / 'val/bee/0.png'
    more = "test_dataloader['dataset']['pipeline'] = " \
        "[dict(type='PackInputs')]\n" \
        f"data_preprocessor = dict(to_rgb={to_rgb})\n"
    rows = []
    for pipeline in ('', more):
        _, error = demo(image, '--out', out, more=pipeline)
        assert error is None
        rows += json.loads(out.read_text())
    assert rows[0]['classes'] == rows[1]['classes']


def test_policies(demo, images, tmp_path):
    point, out = tmp_path / 'point.json', tmp_path / 'out.json'
    OperatingPoint((2, 0, 0)).save(point)
    image = images / 'val/bee/0.png'
    for more, options, expected in [
        ('', ('--thresholds-file', point), 1),
        ("model['thresholds'] = [2, 0, 0]\n", ('--exit', '0'), 0),
        (f"model['thresholds'] = {str(point)!r}\n", (), 1),
    ]:
        _, error = demo(image, '--out', out, *options, more=more)
        assert error is None
        row, = json.loads(out.read_text())
        assert row['exit_index'] == expected, (more, options)


def test_goes_on_without_broken_images(demo, images, tmp_path):
    folder, out = tmp_path / 'mixed', tmp_path / 'out.csv'
    shutil.copytree(images / 'val/ant', folder)
    os.symlink(images / 'val/bee', folder / 'linked')
    (folder / '._0.png').write_bytes(b'hidden')
    (folder / 'a[red].png').write_bytes(b'broken')
    (folder / 'bomb.png').write_bytes(png_header(65535, 65535))
    Image.new('RGB', (8, 8)).save(folder / 'small.png')
    output, error = demo(folder, 'nowhere.png', '--out', out, '--topk', '1')
    assert error is None
    with open(out, newline='') as file:
        rows = list(csv.DictReader(file))
    assert [os.path.basename(row['image']) for row in rows if row['error']
            ] == ['a[red].png', 'bomb.png', 'small.png', 'nowhere.png']
    good = [row for row in rows if not row['error']]
    assert len(good) == 4 and all(row['name'] and row['macs'] for row in good)
    assert '4 could not be read and were skipped' in output
    assert re.search(r'skipped: .*a\[red\].png', output)
    assert re.search(r'skipped: .*small.png.*at least 32 pixels', output)
    _, error = demo(folder / 'bomb.png')
    assert 'none of the images could be classified' in error


def test_a_stopped_run_keeps_what_was_done(demo, images, tmp_path,
                                           monkeypatch):
    from mmdynperceiver.classification import DynPerceiverClassifier
    predict, calls = DynPerceiverClassifier.predict, []

    def stop_at_the_third(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return predict(*args, **kwargs)

    monkeypatch.setattr(DynPerceiverClassifier, 'predict', stop_at_the_third)
    out = tmp_path / 'out.json'
    output, error = demo(images / 'val', '--out', out)
    assert error == 130 and 'stopped after 2 of 6 images' in output
    assert len(json.loads(out.read_text())) == 2


@pytest.mark.parametrize('options, message', [
    (('--thresholds', '0.5'), 'need 3 thresholds'),
    (('--topk', '0'), '--topk must be at least 1'),
    (('--out', 'out.txt'), 'must end with .json or .jsonl or .csv or'),
    (('--device', 'abacus'), 'abacus'),
    (('--cfg-options', 'model.head.num_classes=4'), 'has 3 classes'),
])
def test_errors_are_one_line(demo, images, options, message):
    _, error = demo(images / 'val/bee/0.png', *options)
    assert isinstance(error, str) and '\n' not in error and message in error


def test_other_tasks_are_told_where_to_go(tool, trained):
    config = next((ROOT / 'configs/demo').glob('*clips.py'))
    _, error = tool('image_demo', config, trained / 'epoch_1.pth', 'a.png')
    assert 'tools/video_demo.py' in error
