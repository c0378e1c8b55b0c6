# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The demo on few images."""
import json
import sys

import cv2
import pytest

from mmdynperceiver.calibration.held_out import load_thresholds
from mmdynperceiver.cli import demo


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run it with the given arguments; returns exit code and output."""

    def run(*args):
        folders = ['--work-dir', 'out', '--data-root', 'data/digits']
        monkeypatch.setattr(demo, 'COUNTS', dict(train=256, val=60, test=80))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, 'argv', ['demo.py', *folders, *args])
        code = demo.main()
        return code, capsys.readouterr().out

    return run


def test_from_nothing_to_pictures(run, tmp_path):
    code, text = run('--epochs', '1')
    assert code == 0, text
    assert 'always exit 3' in text and 'leaving early' in text
    results = json.loads((tmp_path / 'out/results.json').read_text())
    assert len(results['accuracy']) == 4
    assert results['macs'] == sorted(results['macs'])
    assert sum(results['dynamic']['shares']) == pytest.approx(1)
    thresholds = load_thresholds(str(tmp_path / 'out/thresholds.json'))
    assert results['thresholds'] == list(thresholds)
    table = json.loads((tmp_path / 'out/latency.json').read_text())
    assert table['model']['num_exits'] == len(table['exits']) == 4
    for name in ('accuracy_macs.png', 'gallery.png'):
        height, width = cv2.imread(str(tmp_path / 'out' / name)).shape[:2]
        assert height > 300 and width > 500

    # A second run finds everything done.
    trained = (tmp_path / 'out/epoch_1.pth').stat().st_mtime_ns
    code, text = run('--epochs', '1')
    assert code == 0
    assert 'are there already' in ' '.join(text.split())
    assert 'is trained already' in text
    assert (tmp_path / 'out/epoch_1.pth').stat().st_mtime_ns == trained


def test_errors_are_one_line(run, tmp_path):
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/digits').mkdir()
    (tmp_path / 'data/digits/mine.txt').write_text('mine')
    code, text = run()
    assert code == 1
    assert 'error: ' in text and 'Traceback' not in text
    assert (tmp_path / 'data/digits/mine.txt').read_text() == 'mine'


def test_at_least_one_epoch(run):
    with pytest.raises(SystemExit):
        run('--epochs', '0')


def test_needs_the_generator_of_a_checkout(run, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, 'ROOT', tmp_path)
    code, text = run()
    assert code == 1 and 'Traceback' not in text
    assert 'run `make demo` in a checkout' in ' '.join(text.split())
