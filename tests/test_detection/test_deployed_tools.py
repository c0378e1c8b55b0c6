# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Exported detectors in 8 bits, and detectors in the benchmark."""
import importlib.util
import json

import numpy as np
import onnx
import pytest
import torch
from mmengine.config import Config
from tiny import run_tool
from tiny_detector import DEMO_CONFIG, build_detector, make_scenes

from mmdynperceiver.deploy import Detector
from mmdynperceiver.deploy.boxes import Boxes, overlaps
from mmdynperceiver.deploy.quantize_detector import agreement
from mmdynperceiver.detection.evaluation import annotated_images
from mmdynperceiver.errors import InputError

if not importlib.util.find_spec('onnxruntime'):
    pytest.skip('onnxruntime is missing', allow_module_level=True)

CLASSES = tuple('0123456789')


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    """A few scenes, with annotations."""
    return make_scenes(tmp_path_factory.mktemp('scenes'))


@pytest.fixture(scope='module')
def configs(tmp_path_factory, scenes):
    """Configs of a detector that stops early, and of a static one."""
    folder = tmp_path_factory.mktemp('configs')
    paths = {}
    for name, kind in (('early', ''), ('static', "type='RetinaNet', ")):
        paths[name] = folder / f'{name}.py'
        paths[name].write_text(f'''
_base_ = [{str(DEMO_CONFIG)!r}]
model = dict({kind}backbone=dict(
    _delete_=True, type='DynPerceiverDetBackbone', arch='resnet18', width=0.25,
    num_latents=16, depth_factor=(0, 0, 1 / 9, 1 / 3), drop_path_rate=0.))
''')
    return paths


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """Random weights, with boxes of some surety."""
    from mmengine.registry import DefaultScope
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = build_detector()
    torch.nn.init.normal_(model.bbox_head.retina_cls.weight, std=.03)
    torch.nn.init.constant_(model.bbox_head.retina_cls.bias, -1.)
    path = tmp_path_factory.mktemp('weights') / 'a.pth'
    torch.save(
        dict(
            state_dict=model.state_dict(),
            meta=dict(dataset_meta=dict(classes=CLASSES))), path)
    return path


def boxes_of(boxes, scores, labels):
    return Boxes(*(np.array(x, np.float32) for x in (boxes, scores)),
                 np.array(labels))


def test_overlaps():
    boxes = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 5, 5]], np.float32)
    np.testing.assert_allclose(
        overlaps(boxes, boxes), [[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 0]])


def test_agreement():
    one = boxes_of([[0, 0, 9, 9], [20, 20, 29, 29]], [.9, .5], [0, 1])
    other = boxes_of([[0, 0, 9, 8], [20, 20, 29, 29], [0, 0, 9, 9]],
                     [.9, .5, .1], [0, 2, 0])
    assert agreement([one], [one]) == 1
    # One of two boxes of each has the same class; the third is too unsure.
    assert agreement([one, one], [one, other]) == pytest.approx(6 / 8)
    twice = boxes_of([[0, 0, 9, 9]] * 2, [.9, .8], [0, 0])
    single = boxes_of([[0, 0, 9, 9]], [.9], [0])
    # Each counts for one of the other alone.
    assert agreement([twice], [single]) == pytest.approx(2 / 3)
    none = boxes_of(np.empty((0, 4)), [], np.empty(0, int))
    assert agreement([none], [none]) == 1 and agreement([none], [one]) == 0


def test_precision_of_annotated_images(configs, scenes):
    """What is in the annotations is worth 1, and nothing is worth 0."""
    config = Config.fromfile(str(configs['early']))
    config.merge_from_dict({'test_dataloader.dataset.data_root': str(scenes)})
    folder = str(scenes / 'test')
    test = annotated_images(config, folder, CLASSES)
    content = json.loads((scenes / 'annotations/test.json').read_text())
    labels = {c['id']: CLASSES.index(c['name']) for c in content['categories']}
    perfect, nothing = [], []
    for file, image in zip(test.files, content['images']):
        assert file.endswith(image['file_name'])
        found = [
            one for one in content['annotations']
            if one['image_id'] == image['id']
        ]
        corners = np.array([one['bbox'] for one in found], np.float32)
        corners[:, 2:] += corners[:, :2]
        perfect.append((file,
                        boxes_of(corners, np.full(len(found), .9),
                                 [labels[x['category_id']] for x in found])))
        nothing.append((file, boxes_of(np.empty((0, 4)), [], [])))
    assert test.precision(perfect) == pytest.approx(1)
    assert test.precision(nothing) == 0
    with pytest.raises(InputError, match="6 of the 6 images .* are not in"):
        annotated_images(config, str(scenes), CLASSES)


@pytest.mark.parametrize('name', ['early', 'static'])
def test_int8(name, configs, checkpoint, scenes, tmp_path, capsys):
    content = torch.load(checkpoint)
    if name == 'static':
        content['state_dict'] = {
            key: value
            for key, value in content['state_dict'].items()
            if not key.startswith(('exits', 'policy'))
        }
    given = tmp_path / 'b.pth'
    torch.save(content, given)
    folders = tmp_path / 'fp32', tmp_path / 'int8'
    options = ('--int8-calibration', scenes / 'val', '--int8-test',
               scenes / 'test')
    for folder, more in zip(folders, ((), options)):
        error = run_tool('export', configs[name], given, folder, *more,
                         '--cfg-options', f'data_root={scenes}/')
        assert error is None, error
    printed = capsys.readouterr().out
    assert 'quantised by 6 images; on 6 images' in printed
    assert 'box AP' in printed and 'Evaluating' not in printed
    manifest = Detector.load(folders[1]).manifest
    assert manifest.precision == 'int8'
    assert len(manifest.quantization['exits']) == manifest.num_exits
    for row in manifest.quantization['exits']:
        assert 0 < row['agreement'] < 1
        assert 0 <= row['int8'] <= 100 and 0 <= row['fp32'] <= 100
    for graph in manifest.graphs:
        nodes = onnx.load(folders[1] / graph.file).graph.node
        rounded = {
            made
            for node in nodes if node.op_type == 'DequantizeLinear'
            for made in node.output
        }
        assert rounded
        for node in nodes:
            if 'retina_' in node.name or 'gains' in node.name:
                assert not rounded.intersection(node.input)
    exact, int8 = (Detector.load(folder, threads=1) for folder in folders)
    batch = np.random.default_rng(0).normal(size=(2, 3, 96, 96))
    for index in range(manifest.num_exits):
        outputs = [
            one.outputs(batch.astype(np.float32), one.leave_at(index))[0]
            for one in (exact, int8)
        ]
        for one, other in zip(*outputs):
            difference = np.abs(one - other).max() / np.abs(one).max()
            assert 1e-4 < difference < .5


def test_benchmark(configs, checkpoint, scenes, tmp_path, capsys):
    """Beside a static one; a latency table for the thresholds."""
    out, folder = tmp_path / 'times.json', tmp_path / 'out'
    root = ('--cfg-options', f'data_root={scenes}/')
    error = run_tool('export', configs['early'], checkpoint, folder,
                     '--thresholds', 0, 2, *root)
    assert error is None, error
    options = ('--threads', 1, '--runs', 4, '--warmup', 0)
    error = run_tool('benchmark', configs['early'], checkpoint, '--against',
                     configs['static'], '--modes', 'eager', 'prepared',
                     'onnxruntime', '--exported', folder, '--images', 'test',
                     '--num-images', 4, '--batch-size', 2, '--shares', .5, 0,
                     .5, '--out', out, *options, *root)
    assert error is None, error
    result = json.loads(out.read_text())
    assert result['shape'] == [3, 96, 96]
    rows = {(row['name'], row['mode']): row for row in result['compared']}
    macs = [found['macs'] for found in rows['early', 'eager']['exits']]
    assert macs == sorted(macs) and len(macs) == 3
    for mode in ('eager', 'prepared', 'onnxruntime'):
        early, static = rows['early', mode], rows['static', mode]
        assert [found['macs'] for found in early['exits']] == macs
        assert early['dynamic']['shares'] == [.5, 0, .5]
        assert len(static['exits']) == 1 and 'dynamic' not in static
        # Without the heads of the exits.
        assert static['exits'][0]['macs'] == pytest.approx(macs[2], rel=.01)
    # The folder has thresholds of its own, unless shares are asked for.
    assert rows['out', 'onnxruntime']['dynamic']['shares'] == [.5, 0, .5]
    assert 'top1' not in rows['early', 'eager']
    point, table = tmp_path / 'point.json', tmp_path / 'table.json'
    error = run_tool('benchmark', configs['early'], checkpoint, '--size', 96,
                     96, '--out', table, *options)
    assert error is None, error
    # Of so few runs they need not grow.
    content = json.loads(table.read_text())
    for row, ms in zip(content['exits'], (1., 2., 3.)):
        row['median_ms'] = ms
    table.write_text(json.dumps(content))
    error = run_tool('calibrate_detector', configs['early'], checkpoint,
                     '--budget-ms', 2.5, '--latency-table', table, '--out',
                     point, *root)
    assert error is None, error
    expected = json.loads(point.read_text())['expected']
    assert expected['latency_ms'] <= 2.5


@pytest.mark.parametrize('options, message', [
    (('--unsplit', '--modes', 'onnxruntime'), 'there is no --unsplit'),
    (('--plot', 'a.png', '--images', 'test'), 'there is no --plot'),
    (('--against', 'torchvision:resnet18'), 'timed beside detectors alone'),
])
def test_what_is_for_classifiers(configs, options, message):
    error = run_tool('benchmark', configs['static'], '--size', 64, 64,
                     *options)
    assert message in error and '\n' not in error
