# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Which images thresholds are solved on, and what is said of them."""
import json
import os
import shutil

import pytest
from tiny import split_lines

from mmdynperceiver import report
from mmdynperceiver.calibration.intervals import wilson_interval
from mmdynperceiver.core import OperatingPoint
from mmdynperceiver.datasets.lists import read_list
from mmdynperceiver.report.__main__ import main as draw_curves

BUDGET = ('--budget-macs', '80%')


@pytest.fixture
def own(folder, tmp_path):
    """A copy of the images to change."""
    return shutil.copytree(folder, tmp_path / 'own')


def roots(own, *splits):
    """Take these splits from the copy."""
    return [f'{name}_dataloader.dataset.data_root={own}' for name in splits]


@pytest.mark.parametrize('name', ['ant', 'bee', 'cow'])
def test_a_missing_class_folder_is_refused(calibrate, own, name):
    shutil.rmtree(own / 'val' / name)
    _, error, point = calibrate(*BUDGET, cfg=roots(own, 'val'))
    assert 'the held-out images have 2 classes' in error and point is None
    assert f"missing: '{name}'" in error


def test_other_class_folders_are_refused(calibrate, own):
    (own / 'test/cow').rename(own / 'test/aardvark')
    cfg = roots(own, 'test')
    _, error, point = calibrate(*BUDGET, '--test', cfg=cfg)
    assert 'the test images have other classes' in error and point is None
    assert "missing: 'cow'; unknown: 'aardvark'" in error
    _, error, _ = calibrate(*BUDGET, '--split', 'test', cfg=cfg)
    assert 'the held-out images have other classes' in error
    # Without a checkpoint the number of classes is known.
    shutil.rmtree(own / 'test/bee')
    _, error, _ = calibrate(
        '--split', 'test', '--hold-out', '2', path=None, cfg=cfg)
    assert 'the test data have 2 classes' in error


def test_names_say_which_class_is_missing(calibrate, own):
    expected = calibrate(*BUDGET, '--test')[2].expected
    shutil.rmtree(own / 'val/ant')
    shutil.rmtree(own / 'test/ant')
    cfg = roots(own, 'val', 'test') + [
        f'{name}_dataloader.dataset.classes=ant,bee,cow'
        for name in ('val', 'test')
    ]
    _, error, point = calibrate(*BUDGET, '--test', cfg=cfg)
    assert error is None, error
    assert point.data['num_images'] == 8
    # Right answers for the other classes are right answers still.
    assert 8 * point.expected['accuracy'] <= 12 * expected['accuracy'] + 1e-6


@pytest.mark.parametrize('link', [os.symlink, os.link])
def test_links_to_training_images(calibrate, own, link):
    for name in ('ant', 'bee'):
        (own / 'val' / name / '0.png').unlink()
        link(own / 'train' / name / '1.png', own / 'val' / name / '0.png')
    _, error, point = calibrate(*BUDGET, cfg=roots(own, 'train', 'val'))
    assert '2 of the 12 held-out images are training images' in error
    assert 'val/ant/0.png' in error and point is None


def test_no_cache_of_other_content(calibrate, own):
    cfg = roots(own, 'val')
    calibrate(*BUDGET, cfg=cfg)
    assert '12 of the 12' in calibrate(*BUDGET, cfg=cfg)[0]
    path, other = own / 'val/ant/0.png', own / 'val/cow/0.png'
    contents = [p.read_bytes() for p in (path, other)]
    length = max(map(len, contents))
    # Decoders leave out what stands behind an image.
    path.write_bytes(contents[0].ljust(length, b'\0'))
    calibrate(*BUDGET, cfg=cfg)
    times = path.stat().st_mtime_ns
    path.write_bytes(contents[1].ljust(length, b'\0'))
    os.utime(path, ns=(times, times))
    output, error, _ = calibrate(*BUDGET, cfg=cfg)
    assert error is None and 'run before' not in output
    # The same images elsewhere are not run again.
    moved = own.rename(own.with_name('moved'))
    assert '12 of the 12' in calibrate(*BUDGET, cfg=roots(moved, 'val'))[0]


def test_a_class_with_a_single_image(calibrate, own, tmp_path):
    for number in (1, 2, 3):
        (own / f'train/bee/{number}.png').unlink()
    cfg = roots(own, 'train')
    output, error, _ = calibrate('--hold-out', '4', path=None, cfg=cfg)
    assert error is None, error
    assert "single image, which stays in training: 'bee'" in output
    path = tmp_path / 'work/hold_out_train_4.txt'
    assert len(read_list(path)) == 4
    # As Windows would have written the list.
    text = path.read_text().replace('/', '\\').replace('\n', '\r\n')
    path.write_text(f'\ufeff{text}\r\n')
    cfg += [f'train_dataloader.dataset.exclude={path}']
    _, error, point = calibrate('--hold-out', '4', *BUDGET, cfg=cfg)
    assert error is None and point.data['num_images'] == 4


def test_names_that_are_not_utf8(calibrate, own, tmp_path):
    name = os.fsdecode(b'caf\xe9')
    for path in sorted((own / 'train').glob('*/0.png')):
        path.rename(path.with_name(f'{name}.png'))
    cfg = roots(own, 'train')
    _, error, _ = calibrate('--hold-out', '9', path=None, cfg=cfg)
    assert error is None, error
    path = tmp_path / 'work/hold_out_train_9.txt'
    assert b'caf\xe9.png\n' in path.read_bytes()
    cfg += [f'train_dataloader.dataset.exclude={path}']
    for _ in range(2):
        output, error, point = calibrate('--hold-out', '9', *BUDGET, cfg=cfg)
        assert error is None, error
    assert '9 of the 9 held-out images were run before' in output


def test_class_names_reach_the_report(calibrate, tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(report, 'write_report',
                        lambda *_, **options: seen.update(options))
    _, error, _ = calibrate(*BUDGET, '--report', tmp_path / 'report')
    assert error is None, error
    assert list(seen['class_names']) == ['ant', 'bee', 'cow']


def test_intervals(calibrate):
    output, error, point = calibrate('--budget-macs', '150%', '--test')
    assert error is None, error
    assert 'any thresholds keep it' in output.replace('\n', ' ')
    assert point.solved_for['budget_macs'] > point.expected['macs']
    assert '12 held-out images are few' in output.replace('\n', ' ')
    for found in (point.expected, point.expected['test']):
        right = round(12 * found['accuracy'])
        assert found['accuracy_interval'] == pytest.approx(
            wilson_interval(right, 12))
        for share, interval in zip(found['shares'], found['shares_interval']):
            assert interval == pytest.approx(
                wilson_interval(round(12 * share), 12))
        assert len(found['macs_per_exit']) == 4


def test_who_takes_a_sweep(calibrate, config, tool, checkpoint, folder,
                           tmp_path):
    _, error, _ = calibrate('--sweep', 'paper')
    assert error is None, error
    file = tmp_path / 'model.sweep.json'
    points = OperatingPoint.load_all(file)

    def measure(*options):
        out = tmp_path / 'measured.json'
        _, error = tool('test', config(split_lines(folder, test='val')),
                        checkpoint, '--work-dir', tmp_path / 'test', '--out',
                        out, *options)
        return error or json.loads(out.read_text())

    found = measure('--thresholds-file', f'{file}:12')
    assert tuple(found['thresholds']) == points[12].thresholds
    assert found['metrics']['dynamic/macs'] == pytest.approx(
        points[12].expected['macs'])
    found = measure('--thresholds-file', file, '--budget-macs', '80%')
    assert found['metrics']['dynamic/macs'] <= \
        0.8 * points[0].expected['macs_per_exit'][-1]
    assert f'{file}:0 to {file}:32' in measure('--thresholds-file', file)
    assert 'name its file' in measure('--budget-macs', '80%')
    _, error, point = calibrate('--thresholds-file', f'{file}:12', '--embed')
    assert error is None, error
    assert point == points[12]
    assert draw_curves([str(file), '--out', str(tmp_path / 'plot.png')]) == 0
