# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Detectors through the tools: calibrate, then test."""
import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import IMAGENET_CONFIG
from tiny_detector import (DEMO_CONFIG, ROOT, TRUNK, build_detector,
                           make_batch, make_scenes)

pytest.importorskip('mmcv._ext')
pytest.importorskip('mmdet')


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    return make_scenes(
        tmp_path_factory.mktemp('data') / 'scenes', train=0, val=12, test=10)


@pytest.fixture(scope='module')
def config(tmp_path_factory, scenes):
    path = tmp_path_factory.mktemp('configs') / 'tiny-detector.py'
    path.write_text(f'''
_base_ = [{str(DEMO_CONFIG)!r}]
data_root = {str(scenes)!r}
model = dict(
    backbone=dict(_delete_=True, type='DynPerceiverDetBackbone', **{TRUNK!r}),
    test_cfg=dict(score_thr=0.01))
loader = dict(batch_size=4, num_workers=0, persistent_workers=False,
              dataset=dict(data_root=data_root))
val_dataloader = loader
test_dataloader = loader
val_evaluator = dict(ann_file=data_root + '/annotations/val.json')
test_evaluator = dict(ann_file=data_root + '/annotations/test.json')
''')
    return path


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    model = build_detector().eval()
    torch.nn.init.normal_(model.bbox_head.retina_cls.weight, std=0.1)
    # Predicted gains that differ from image to image.
    images = make_batch(model, number=8)['inputs']
    with torch.no_grad():
        for index, (_, logits) in enumerate(model._walk(images)):
            if index < 2:
                model.exits.gains[index].fc2.weight.div_(logits.std())
    path = tmp_path_factory.mktemp('weights') / 'detector.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    return path


def check_sweep(path):
    """Of the report: each series, shares that fit, no accuracies."""
    rows = list(csv.DictReader(open(path, newline='')))
    series = {row['series'] for row in rows}
    assert series == {
        'exit 0', 'exit 1', 'exit 2', 'search', 'random', 'stopping early'
    }
    assert 'utility' in rows[0] and 'accuracy' not in rows[0]
    for row in rows:
        shares = [float(row[f'share_{k}']) for k in range(3)]
        assert sum(shares) == pytest.approx(1)
        if row['series'] == 'random':
            twin = next(
                r for r in rows
                if r['series'] == 'search' and r['budget'] == row['budget'])
            assert row['macs'] == twin['macs']


def test_from_a_budget_to_the_report_and_back(config, checkpoint, tool,
                                              tmp_path):
    point, embedded = tmp_path / 'point.json', tmp_path / 'embedded.pth'
    report = tmp_path / 'report'
    output, error = tool('calibrate_detector', config, checkpoint,
                         '--budget-macs', '85%', '--out', point, '--embed',
                         embedded, '--report', report, '--work-dir', tmp_path)
    assert error is None, error
    content = json.loads(point.read_text())
    assert content['criterion'] == 'learned'
    budget = content['solved_for']['budget_macs']
    expected = content['expected']
    assert expected['macs'] <= budget * (1 + 1e-9)
    assert expected['utility'] < 0 and 'accuracy' not in expected
    check_sweep(report / 'sweep.csv')
    for name in ('precision_macs.png', 'shares.png', 'gallery.png'):
        assert (report / name).stat().st_size > 10_000
    for text in ('12 held-out images', 'utility', '10 test images',
                 'box AP (%)', 'leaving early'):
        assert text in output
    assert 'accuracy' not in output

    # The same thresholds from the file and from the checkpoint, replayed
    # and for real.
    results = []
    for options in (['--thresholds-file', point], ['--really-stop']):
        out = tmp_path / 'results.json'
        weights = checkpoint if '--thresholds-file' in options else embedded
        output, error = tool('test', config, weights, '--work-dir', tmp_path,
                             '--out', out, *options)
        assert error is None, error
        results.append(json.loads(out.read_text())['metrics'])
    replayed, stopped = results
    assert 'AP50 (%)' in output
    test = expected['test']
    for metrics in results:
        assert metrics['dynamic/macs'] == pytest.approx(test['macs'])
        assert metrics['dynamic/bbox_mAP'] == pytest.approx(
            test['bbox_mAP'], abs=2e-3)
    assert 'exit0/bbox_mAP' in replayed and 'exit0/bbox_mAP' not in stopped


def test_a_report_takes_the_place_of_an_older_one(config, checkpoint, tool,
                                                  tmp_path, monkeypatch):
    weights = tmp_path / 'detector.pth'
    weights.write_bytes(checkpoint.read_bytes())
    report = tmp_path / 'report'
    # As in COCO's configs, the test data are the validation data.
    command = [
        'calibrate_detector', config, weights, '--budget-macs', '85%',
        '--work-dir', tmp_path, '--report', report, '--embed', '--cfg-options',
        'test_dataloader.dataset.ann_file=annotations/val.json',
        'test_dataloader.dataset.data_prefix.img=val/'
    ]
    # Fewer rows and no plots: another test looks at these.
    monkeypatch.setattr('mmdynperceiver.report.sweep.sweep_budgets',
                        lambda macs, count: [macs[0], macs[-1], macs[-1]])
    for name in ('curve.plot_accuracy_macs', 'pictures.plot_shares'):
        monkeypatch.setattr(f'mmdynperceiver.report.{name}',
                            lambda *args, **options: None)
    for word in ('wrote', 'replaced'):
        output, error = tool(*command)
        assert error is None, error
        assert '12 of the 12 test images are held-out images' in output
        for name in ('detector.operating_point.json',
                     'detector.calibrated.pth'):
            assert f'{word} {tmp_path / name}' in output
        (report / 'of the run before').touch()
    # What fails halfway leaves the older report as it is.
    monkeypatch.setattr('mmdynperceiver.detection.pictures.plot_detections',
                        lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tool(*command)
    assert (report / 'of the run before').is_file()
    assert {path.name
            for path in tmp_path.iterdir()
            if path.is_dir()} == {'report', 'logits'}


def test_goals_and_the_cache_are_those_of_classes(config, checkpoint, tool,
                                                  tmp_path):
    file = tmp_path / 'sweep.json'

    def run(*options):
        output, error = tool('calibrate_detector', config, checkpoint,
                             *options, '--work-dir', tmp_path)
        assert error is None, error
        return output

    output = run('--sweep', 'paper', '--out', file)
    assert 'run before' not in output and 'leaving early' in output
    points = json.loads(file.read_text())['points']
    assert len(points) == 33
    best = max(points, key=lambda point: point['expected']['utility'])
    # The network is not run again.
    out = tmp_path / 'point.json'
    floor = best['expected']['utility']
    output = run(f'--min-utility={floor}', '--out', out)
    assert '12 of the 12 held-out images were run before' in output
    found = json.loads(out.read_text())
    assert found['solved_for'] == dict(min_utility=floor)
    assert found['expected']['utility'] >= floor - 1e-6
    assert found['expected']['macs'] <= best['expected']['macs'] + 1e-6
    # Half of the images certify how much larger its loss may be.
    run('--max-risk', '0.9', '--out', out)
    found = json.loads(out.read_text())['certificate']
    assert (found['risk'], found['num_images']) == ('loss-gap', 6)
    assert -1 <= found['observed'] <= found['bound'] <= .9
    run('--thresholds-file', f'{file}:{points.index(best)}', '--out', out)
    assert json.loads(out.read_text()) == best


@pytest.mark.parametrize('options, message', [
    (['--embed', 'CHECKPOINT'], '--embed would replace the checkpoint'),
    (['--report', 'FOLDER'], 'holds other files and is not a report'),
    (['--launcher', 'pytorch'], 'leave out --launcher'),
    ([
        '--cfg-options',
        'train_dataloader.dataset.ann_file=annotations/val.json'
    ], 'the held-out images are training images'),
])
def test_refuses_before_the_network_runs(config, checkpoint, tool, tmp_path,
                                         scenes, options, message):
    names = dict(CHECKPOINT=checkpoint, FOLDER=checkpoint.parent)
    options = [names.get(option, option) for option in options]
    if options[0] == '--cfg-options':
        options.append(f'train_dataloader.dataset.data_root={scenes}')
    _, error = tool('calibrate_detector', config, checkpoint, '--budget-macs',
                    '80%', '--work-dir', tmp_path, *options)
    assert message in error and '\n' not in error


def test_classes_are_those_of_the_checkpoint(config, checkpoint, tool,
                                             tmp_path, scenes):
    content = json.loads((scenes / 'annotations/val.json').read_text())
    names = [entry['name'] for entry in content['categories']]
    weights = torch.load(checkpoint)
    weights['meta'] = dict(dataset_meta=dict(classes=names[::-1]))
    torch.save(weights, tmp_path / 'other.pth')
    _, error = tool('calibrate_detector', config, tmp_path / 'other.pth',
                    '--budget-macs', '80%', '--work-dir', tmp_path)
    assert 'the val data have other classes than the checkpoint' in error
    assert 'their order differs' in error


def test_damaged_annotations_are_one_line(config, checkpoint, tool, tmp_path,
                                          scenes):
    content = json.loads((scenes / 'annotations/val.json').read_text())
    path = tmp_path / 'damaged.json'
    for edit, message in ((dict(bbox=[.1, .1, .2, .2]), 'are in [0, 1]'),
                          (dict(iscrowd=1), 'none of the 12 images has a box'),
                          (dict(bbox=None), "has the bbox None")):
        for annotation in content['annotations']:
            annotation.update(edit)
        path.write_text(json.dumps(content))
        _, error = tool('calibrate_detector', config, checkpoint,
                        '--budget-macs', '85%', '--work-dir', tmp_path,
                        '--cfg-options',
                        f'val_dataloader.dataset.ann_file={path}')
        assert message in error and '\n' not in error
        for annotation in content['annotations']:
            annotation.update(bbox=[5, 5, 20, 20])


@pytest.mark.parametrize('exit', [0, 2])
def test_one_exit(config, checkpoint, tool, tmp_path, exit):
    out = tmp_path / 'results.json'
    _, error = tool('test', config, checkpoint, '--exit', exit, '--out', out,
                    '--work-dir', tmp_path)
    assert error is None, error
    metrics = json.loads(out.read_text())['metrics']
    assert metrics[f'exit{exit}/share'] == 1
    assert metrics['dynamic/bbox_mAP'] == metrics[f'exit{exit}/bbox_mAP']


@pytest.mark.parametrize('tool_name, options, message', [
    ('calibrate_detector', ['--budget-macs', '1%'], 'the least budget is'),
    ('calibrate_detector', ['--budget-macs', 'much'], "got 'much'"),
    ('calibrate_detector', ['--min-utility', 'much'], "got 'much'"),
    ('calibrate_detector', [], '--min-utility or --sweep paper'),
    ('calibrate_detector', ['--budget-macs', '80%', '--out', 'x.txt'
                            ], 'must end with .json'),
    ('test', ['--exit', 3], 'one of 0 to 2'),
    ('test', ['--thresholds', '0.5'], '3 exits need 2 thresholds'),
])
def test_errors_are_one_line(config, checkpoint, tool, tmp_path, tool_name,
                             options, message):
    _, error = tool(tool_name, config, checkpoint, '--work-dir', tmp_path,
                    *options)
    assert message in error and '\n' not in error


@pytest.mark.parametrize('path, message', [
    (None, 'got RetinaNet'),
    (IMAGENET_CONFIG, 'but of a DynPerceiverClassifier'),
])
def test_other_models_are_refused(config, checkpoint, tool, tmp_path, path,
                                  message):
    options = ['--cfg-options', 'val_dataloader.dataset.data_root=.']
    if path is None:
        options = ['--cfg-options', 'model.type=RetinaNet']
    _, error = tool('calibrate_detector', path or config, checkpoint,
                    '--budget-macs', '80%', '--work-dir', tmp_path, *options)
    assert message in error


def test_data_root_moves_the_annotations(config, checkpoint, tool, tmp_path):
    _, error = tool('test', config, checkpoint, '--work-dir', tmp_path,
                    '--cfg-options', f'data_root={tmp_path / "none"}')
    assert 'no data folder' in error


def test_annotations_are_needed(config, checkpoint, tool, tmp_path):
    path = tmp_path / 'without-annotations.py'
    path.write_text(f'''
_base_ = [{str(config)!r}]
val_dataloader = dict(dataset=dict(pipeline=[
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(96, 96), keep_ratio=True),
    dict(type='PackDetInputs')]))
''')
    _, error = tool('calibrate_detector', path, checkpoint, '--budget-macs',
                    '80%', '--work-dir', tmp_path)
    assert 'put LoadAnnotations before Resize' in error


def test_hosts_own_tool(config, checkpoint, tmp_path):
    import mmdet
    host = Path(mmdet.__file__).parent / '.mim/tools/test.py'
    environment = dict(
        os.environ, PYTHONPATH=str(ROOT), PYTHONWARNINGS='ignore')
    result = subprocess.run(
        [sys.executable, host, config, checkpoint, '--work-dir', tmp_path],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300)
    output = result.stdout + result.stderr
    assert result.returncode == 0, output[-5000:]
    assert 'exit0/bbox_mAP' in output and 'dynamic/macs' in output
