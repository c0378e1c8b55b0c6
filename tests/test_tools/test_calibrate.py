# Copyright (c) mmdynperceiver contributors. All rights reserved.
import json
import re

import pytest
import torch
from tiny import split_lines

from mmdynperceiver.datasets.hold_out import read_list
from mmdynperceiver.io.checkpoint_file import read_checkpoint

SHARES = [f'exit{k}/share' for k in range(4)]


def evaluate(tool, config, folder, tmp_path, checkpoint, *options):
    """Shares and accuracy that ``tools/test.py`` measures."""
    out = tmp_path / 'measured.json'
    _, error = tool('test', config(split_lines(folder,
                                               test='val')), checkpoint,
                    '--work-dir', tmp_path / 'test', '--out', out, *options)
    assert error is None, error
    metrics = json.loads(out.read_text())['metrics']
    return metrics


@pytest.mark.parametrize('options', [
    ['--budget-macs', '70%'],
    ['--budget-macs', '70%', '--solver', 'shares', '--criterion', 'margin'],
    ['--budget-macs', '80%', '--criterion', 'entropy', '--temperature', 'fit'],
    ['--budget-macs', '90%', '--criterion', 'patience'],
    ['--min-accuracy', '0.3', '--solver', 'shares'],
])
def test_expected_is_measured(calibrate, config, tool, folder, tmp_path,
                              checkpoint, options):
    """From a checkpoint to a tested operating point in two commands."""
    _, error, point = calibrate(*options, '--embed')
    assert error is None, error
    written = ['--thresholds-file', tmp_path / 'model.operating_point.json']
    by_file = evaluate(tool, config, folder, tmp_path, checkpoint, *written)
    stopped = evaluate(tool, config, folder, tmp_path,
                       tmp_path / 'model.calibrated.pth', '--really-stop')
    for metrics in (by_file, stopped):
        assert [metrics[name]
                for name in SHARES] == pytest.approx(point.expected['shares'])
        assert metrics['dynamic/top1'] == pytest.approx(
            100 * point.expected['accuracy'])
        assert metrics['dynamic/macs'] == pytest.approx(point.expected['macs'])
    if 'budget_macs' in point.solved_for:
        assert point.expected['macs'] <= point.solved_for['budget_macs']


def test_thresholds_alone_keep_the_criterion(calibrate, config, tool, folder,
                                             tmp_path, checkpoint):
    """In every tool that takes them."""
    _, error, point = calibrate('--budget-macs', '80%', '--criterion',
                                'entropy', '--temperature', 'fit', '--embed')
    assert error is None, error
    embedded, out = tmp_path / 'model.calibrated.pth', tmp_path / 'out.json'
    given = ['--work-dir', tmp_path, '--thresholds', 0.5, 0.5, 0.5]
    kept = ([0.5] * 3, 'entropy', list(point.temperature))
    _, error = tool('test', config(split_lines(folder, test='val')), embedded,
                    '--out', out, *given)
    assert error is None, error
    tested = json.loads(out.read_text())
    assert (tested['thresholds'], tested['criterion'],
            tested['temperature']) == kept
    _, error = tool('image_demo', config(), embedded, folder / 'val', '--out',
                    out, *given)
    assert error is None, error
    rows = json.loads(out.read_text())
    stopped = [sum(row['exit_index'] == k for row in rows) for k in range(4)]
    assert stopped == [round(12 * tested['metrics'][name]) for name in SHARES]
    _, error = tool('export', config(), embedded, tmp_path / 'exported',
                    '--size', 32, 32, *given)
    assert error is None, error
    manifest = json.loads((tmp_path / 'exported/manifest.json').read_text())
    assert tuple(manifest['policy'][name]
                 for name in ('thresholds', 'criterion',
                              'temperature')) == kept


def test_what_the_file_says(calibrate, tmp_path):
    output, error, point = calibrate('--budget-macs', '80%', '--test')
    assert error is None, error
    assert point.criterion == 'max_prob' and point.solver == 'search'
    assert point.num_exits == 4 and point.temperature is None
    assert point.data['split'] == 'val' and point.data['num_images'] == 12
    assert point.model['num_classes'] == 3
    assert point.checkpoint['file'] == 'model.pth'
    assert sum(point.expected['test']['shares']) == pytest.approx(1)
    for text in ('12 held-out', '12 test', 'always exit 3', 'leaving early'):
        assert text in output


def test_exit_accuracy(calibrate):
    _, error, point = calibrate('--exit-accuracy', '1e-9')
    assert error is None and point.thresholds != (2., 2., 2.)
    assert point.expected['shares'][3] == 0
    assert point.solved_for == dict(exit_accuracy=1e-9)


def test_report(calibrate, tmp_path):
    folder = tmp_path / 'report'
    folder.mkdir()
    (folder / 'mine.txt').write_text('mine')
    options = ['--budget-macs', '80%', '--test', '--report', folder]
    _, error, point = calibrate(*options)
    assert 'holds other files' in error and point is None
    (folder / 'mine.txt').unlink()
    output, error, point = calibrate(*options)
    assert error is None, error
    assert str(folder / 'index.html') in output.replace('\n', '')
    page = ' '.join((folder / 'index.html').read_text().split())
    assert '12 held-out and 12 test images; 4 exits' in page
    for threshold in point.thresholds:
        assert f'<td>{threshold:.6g}</td>' in page


def test_published_sweep(calibrate, tmp_path):
    _, error, _ = calibrate('--sweep', 'paper', '--test')
    assert error is None, error
    points = json.loads((tmp_path / 'model.sweep.json').read_text())['points']
    assert len(points) == 33
    assert [p['solved_for']['index'] for p in points] == list(range(33))
    macs = [p['expected']['macs'] for p in points]
    assert macs[0] < macs[-1]
    _, error, _ = calibrate('--sweep', 'paper', '--solver', 'search')
    searched = json.loads(
        (tmp_path / 'model.sweep.json').read_text())['points']
    for published, found in zip(points, searched):
        assert found['expected']['accuracy'] >= published['expected'][
            'accuracy']
        assert found['expected']['macs'] <= published['expected']['macs'] + 1


def test_curve_for_a_service(calibrate, tmp_path):
    from mmdynperceiver.serve.operating_curve import load_curve
    _, error, _ = calibrate('--curve', '--out', tmp_path / 'curve.json')
    assert error is None, error
    file = tmp_path / 'curve.json'
    content = json.loads(file.read_text())
    points = content.get('points', [content])
    macs = [p['expected']['macs'] for p in points]
    found = [p['expected']['accuracy'] for p in points]
    assert macs == sorted(macs) and found == sorted(set(found))
    assert macs[0] == points[0]['expected']['macs_per_exit'][0]
    _, error, best = calibrate('--budget-macs', '100%')
    assert found[-1] == best.expected['accuracy']
    for point, curve in zip(points, load_curve(file, 4)):
        assert curve.policy.thresholds == tuple(point['thresholds'])
        assert curve.accuracy == point['expected']['accuracy']


def test_budget_in_milliseconds(calibrate, config, tool, folder, tmp_path):
    table = tmp_path / 'latency.json'
    output, error = tool('benchmark', config(), '--size', 32, 32, '--runs', 3,
                         '--warmup', 1, '--out', table)
    assert error is None and 'median (ms)' in output
    content = json.loads(table.read_text())
    # A busy machine may measure anything.
    for k, row in enumerate(content['exits']):
        row['median_ms'] = k + 1.
    table.write_text(json.dumps(content))
    _, error, point = calibrate('--budget-ms', '2.5', '--latency-table', table)
    assert error is None, error
    assert point.solved_for['budget_ms'] == 2.5
    expected = sum(s * (k + 1) for k, s in enumerate(point.expected['shares']))
    assert point.expected['latency_ms'] == pytest.approx(expected)
    assert expected <= 2.5
    output, error, _ = calibrate('--budget-ms', '5', '--latency-table', table)
    assert error is None and 'any thresholds keep it' in output


def test_hold_out(calibrate, tmp_path):
    output, error, _ = calibrate('--hold-out', '6', path=None)
    assert error is None, error
    path = tmp_path / 'work/hold_out_train_6.txt'
    assert str(path) in output
    names = read_list(path)
    assert len(names) == 6 and all(n.startswith('train/') for n in names)
    options = ['--hold-out', '6', '--budget-macs', '80%']
    output, error, point = calibrate(*options)
    assert re.search('6 of the 6 held-out images are training images', error)
    assert 'train with the list' in error and point is None
    left_out = [f'train_dataloader.dataset.exclude={path}']
    _, error, point = calibrate(*options, cfg=left_out)
    assert error is None, error
    assert point.data['hold_out'] == 6 and point.data['num_images'] == 6
    # Images that training left out are not there twice.
    few = tmp_path / 'few.txt'
    few.write_text('\n'.join(names[:4]))
    _, error, _ = calibrate(
        *options, cfg=[f'train_dataloader.dataset.exclude={few}'])
    assert '2 of the 6 held-out' in error


def test_held_out_of_the_test_images(calibrate):
    output, error, point = calibrate('--split', 'test', '--hold-out', '6',
                                     '--budget-macs', '80%', '--test')
    assert error is None, error
    assert '6 held-out ' in output and '6 test ' in output
    assert point.data['split'] == 'test'


@pytest.mark.parametrize('options, message', [
    (['--budget-macs', '80%', '--split', 'train'
      ], '12 of the 12 held-out images are training images, the first'),
    (['--budget-macs', '80%', '--split', 'test', '--test'
      ], '12 of the 12 held-out images are test images'),
    (['--budget-macs', '1'], 'least budget is .* MACs .* got 1 MACs'),
    (['--budget-macs', 'much'], "with %, got 'much'"),
    (['--budget-ms', '5'], 'needs --latency-table'),
    (['--budget-ms', '5', '--latency-table', 'nowhere'], "'nowhere'"),
    (['--min-accuracy', '95'], 'such as 0.95'),
    (['--min-accuracy', '1', '--solver', 'shares'], 'no share-based'),
    ([], 'choose what to solve for'),
    (['--budget-macs', '80%', '--hold-out', '2'], '3 .* to 9 .* got 2'),
    (['--budget-macs', '80%', '--out', 'point.txt'], 'must end with .json'),
    (['--budget-macs', '80%', '--embed', 'point.txt'], 'must end with .pth'),
    (['--sweep', 'paper', '--embed'], 'not a sweep'),
    (['--budget-macs', '80%', '--risk', 'disagreement'
      ], '--risk is that of a --max-risk'),
    (['--budget-macs', '80%', '--certainty', '90%'
      ], '--certainty is that of a --max-risk'),
    (['--max-risk', '1%', '--solver', 'shares'], '--solver shares is for'),
    (['--exit-accuracy', '90%', '--solver', 'shares'
      ], '--solver shares is for'),
    ([
        '--budget-macs', '80%', '--criterion', 'patience', '--temperature',
        'fit'
    ], 'does not change patience'),
    (['--budget-macs', '80%', '--launcher', 'pytorch'], 'in one process'),
])
def test_errors_are_one_line(calibrate, options, message, tmp_path):
    _, error, point = calibrate(*options)
    assert isinstance(error, str) and error.startswith('error: ')
    assert '\n' not in error and re.search(message, error), error
    assert point is None and not list(tmp_path.glob('*.json'))


@pytest.mark.parametrize('cfg, message', [
    (['model.backbone.num_latents=32'], 'wrong shape: backbone.net.latents'),
    (['model.head.num_classes=4'], 'checkpoint has 3 classes'),
    (['val_dataloader.dataset.data_root=/nowhere'], "data folder '/nowhere'"),
    (['val_dataloader.dataset.split=train/ant'], 'no images in the class'),
])
def test_what_does_not_fit(calibrate, cfg, message):
    _, error, point = calibrate('--budget-macs', '80%', cfg=cfg)
    assert re.search(message, error) and point is None


def annotated(folder, tmp_path, lines):
    """Data of these images only."""
    path = tmp_path / 'ann.txt'
    path.write_text(lines)
    return [f'val_dataloader.dataset.ann_file={path}']


def test_single_class(calibrate, folder, tmp_path):
    cfg = annotated(folder, tmp_path, 'bee/0.png 1\nbee/1.png 1\n')
    _, error, point = calibrate('--budget-macs', '80%', cfg=cfg)
    assert 'all 2 held-out images are of class' in error and point is None


def test_no_images(calibrate, folder, tmp_path):
    cfg = annotated(folder, tmp_path, '')
    _, error, point = calibrate('--budget-macs', '80%', cfg=cfg)
    assert 'no images in' in error and point is None


@pytest.mark.parametrize('value, message', [
    (float('nan'), 'classifiers.2.*NaN'),
    (3e38, 'NaN or infinity at exit 2'),
])
def test_no_numbers(calibrate, checkpoint, value, message):
    content = dict(read_checkpoint(checkpoint))
    weights = content['state_dict']
    names = [
        n for n in weights if re.match(r'head.*classifiers\.2.*weight', n)
    ]
    weights[names[-1]][:] = value
    torch.save(content, checkpoint)
    _, error, point = calibrate('--budget-macs', '80%')
    assert re.search(message, error) and point is None


def test_the_checkpoint_stays(calibrate, checkpoint, tmp_path):
    before = checkpoint.read_bytes()
    _, error, _ = calibrate('--budget-macs', '80%', '--embed', checkpoint)
    assert 'would replace the checkpoint' in error
    _, error, _ = calibrate('--budget-macs', '80%', '--embed')
    assert error is None and checkpoint.read_bytes() == before
    copy = read_checkpoint(tmp_path / 'model.calibrated.pth')
    assert copy['meta'].keys() == read_checkpoint(checkpoint)['meta'].keys()


def test_needs_a_checkpoint(calibrate):
    _, error, _ = calibrate('--budget-macs', '80%', path=None)
    assert 'give a checkpoint, or --hold-out' in error


def test_training_images_elsewhere(calibrate):
    output, error, _ = calibrate(
        '--budget-macs',
        '80%',
        cfg=['train_dataloader.dataset.data_root=/nowhere'])
    assert error is None and 'no training images here' in output
