# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Detectors exported to ONNX: MMDetection's boxes, without torch."""
import importlib.util
import json

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from tiny import run_tool
from tiny_detector import (DEMO_CONFIG, build_detector, make_scenes,
                           spread_gains)

from mmdynperceiver.deploy import Detector, Runner
from mmdynperceiver.deploy.boxes import BoxDecoder
from mmdynperceiver.deploy.detection_pipeline import (
    is_detection, read_detection_preprocessing)
from mmdynperceiver.deploy.export_detector import box_settings
from mmdynperceiver.deploy.stream import classify_files

if not all(map(importlib.util.find_spec, ('onnx', 'onnxruntime'))):
    pytest.skip('onnx or onnxruntime is missing', allow_module_level=True)

CLASSES = tuple('0123456789')
# Images of several sizes, resized so that padding is needed.
PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(150, 90), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_path', 'ori_shape', 'img_shape', 'scale_factor'))
]


class Source:
    """A detector, its config and checkpoint, and the folder of its export."""

    def __init__(self, folder, early):
        torch.manual_seed(0)
        self.model = build_detector(early=early).eval()
        if early:
            spread_gains(self.model)
        # Else all boxes have the score that training begins with.
        classify = self.model.bbox_head.retina_cls
        torch.nn.init.normal_(classify.weight, std=.03)
        torch.nn.init.constant_(classify.bias, -2.)
        self.config, self.checkpoint = folder / 'config.py', folder / 'a.pth'
        torch.save(
            dict(
                state_dict=self.model.state_dict(),
                meta=dict(dataset_meta=dict(classes=CLASSES))),
            self.checkpoint)
        kind = '' if early else "type='RetinaNet', "
        self.config.write_text(f'''
_base_ = [{str(DEMO_CONFIG)!r}]
model = dict({kind}backbone=dict(
    _delete_=True, type='DynPerceiverDetBackbone', arch='resnet18', width=0.25,
    num_latents=16, depth_factor=(0, 0, 1 / 9, 1 / 3), drop_path_rate=0.))
test_dataloader = dict(dataset=dict(pipeline={PIPELINE!r}))
''')
        self.folder = folder / 'out'
        self.options = ('--thresholds', 0.5, 0.5) if early else ()
        assert run_tool('export', self.config, self.checkpoint, self.folder,
                        *self.options) is None

    def expected(self, paths):
        """What MMDetection finds, in a batch of all."""
        pipeline = [step for step in PIPELINE if 'Anno' not in step['type']]
        data = pseudo_collate(
            [Compose(pipeline)(dict(img_path=str(path))) for path in paths])
        with torch.no_grad():
            return self.model.test_step(data)


@pytest.fixture(scope='module', params=[False, True], ids=['static', 'early'])
def source(request, tmp_path_factory):
    """A static detector, and one that stops early."""
    from mmengine.registry import DefaultScope
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield Source(tmp_path_factory.mktemp('source'), request.param)


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    """Scenes of several sizes, as files."""
    folder = tmp_path_factory.mktemp('photos')
    scenes = make_scenes(folder / 'scenes', train=1, val=1, test=6)
    found = sorted((scenes / 'test').iterdir())
    for number, size in enumerate([(160, 90), (150, 90), (170, 100)] * 2):
        image = cv2.imread(str(found[number]))
        cv2.imwrite(str(folder / f'{number}.png'), cv2.resize(image, size))
    return folder


def same_boxes(found, sample):
    """Whether boxes are those of MMDetection.

    Random weights give scores so close, and equal ones where images are
    padded, that rounding may turn around which of two overlapping boxes stays,
    and with it which boxes that one suppresses.
    """
    expected = sample.pred_instances.numpy()
    assert len(found.boxes) == len(expected.bboxes) > 5
    np.testing.assert_allclose(found.scores, expected.scores, atol=.02)
    distance = np.abs(found.boxes[:, None] - expected.bboxes).max(2) / 100
    distance = np.maximum(distance,
                          np.abs(found.scores[:, None] - expected.scores))
    distance += found.labels[:, None] != expected.labels
    for each in (0, 1):
        assert (distance.min(each) < 1e-4).mean() > .9


@pytest.mark.parametrize('runtime', ['onnxruntime', 'openvino'])
@pytest.mark.parametrize('batch_size', [1, 6])
def test_boxes_are_those_of_the_host(source, photos, runtime, batch_size):
    pytest.importorskip(runtime)
    paths = sorted(photos.glob('*.png'))
    thresholds = None
    if hasattr(source.model, 'policy'):
        source.model.policy.set_thresholds((2, 2))
        source.model.evaluate_all_exits = True
        all_logits = torch.stack(
            [one.exit_logits for one in source.expected(paths)])
        source.model.evaluate_all_exits = False
        first, second = all_logits[:, :2, 0].sigmoid().T
        # Between two confidences: rounding decides nothing.
        ordered = first.sort().values
        thresholds = [float(ordered[3:5].mean())]
        stay = second[first < thresholds[0]].sort().values
        thresholds.append(float(stay[-2:].mean()))
        source.model.policy.set_thresholds(thresholds)
    detector = Detector.load(
        source.folder, runtime, threads=2, thresholds=thresholds)
    found = detector(photos, batch_size) if batch_size == 1 else \
        detector(paths, batch_size)
    for start in range(0, 6, batch_size):
        for one, sample in zip(
                found[start:],
                source.expected(paths[start:start + batch_size])):
            same_boxes(one, sample)
            assert one.exit_index == sample.get('exit_index', 0)
    if thresholds and batch_size == 6:
        assert {one.exit_index for one in found} == {0, 1, 2}


def test_streams_give_the_same_in_order(source, photos):
    paths = [*sorted(photos.glob('*.png')), photos / 'none.png']
    one, two = (
        Detector.load(source.folder, **options)
        for options in (dict(threads=1), dict(streams=2)))
    given = paths[:-1] * 2
    for expected, got in zip(one(given, 2), two(given, 2), strict=True):
        assert got.path == expected.path
        assert got.exit_index == expected.exit_index
        np.testing.assert_array_equal(got.boxes, expected.boxes)
    batches = list(classify_files(two, paths, 3))
    assert [[result.path for result in done.results]
            for done in batches] == [paths[:3], paths[3:6], []]
    assert batches[2].broken[0].path == paths[6]
    # Once for each size of images that the graphs meet.
    assert {size[2:] for size in two.met} == {(96, 160)}
    assert two.time_to_exit(
        0, two.normalised(np.zeros((1, 3, 96, 160), np.float32))) > 0


def test_boxes_are_decoded_as_the_host_does_it(source):
    """Of the same outputs, box for box."""
    head, model = source.model.bbox_head, source.model
    images = torch.randn(3, 3, 96, 160)
    with torch.no_grad():
        outputs = head(model.neck(model.backbone(images)))
    metas = [
        dict(img_shape=size, scale_factor=scale)
        for size, scale in (((96, 160), (1., 1.)), ((90, 131), (1.5, 1.4)),
                            ((70, 150), (.3, .31)))
    ]
    decode = BoxDecoder(**box_settings(head))
    expected = head.predict_by_feat(
        *outputs, batch_img_metas=metas, rescale=True)
    scores, deltas = ([one.numpy() for one in maps] for maps in outputs)
    for row, (meta, boxes) in enumerate(zip(metas, expected)):
        found = decode([one[row] for one in scores],
                       [one[row] for one in deltas], meta['img_shape'],
                       meta['scale_factor'])
        assert len(found.boxes) == len(boxes) > 5
        np.testing.assert_allclose(found.scores, boxes.scores, rtol=1e-5)
        np.testing.assert_allclose(found.boxes, boxes.bboxes, atol=1e-3)
        np.testing.assert_array_equal(found.labels, boxes.labels)


def test_macs_are_those_of_the_largest_size(source):
    macs = Detector.load(source.folder).manifest.macs_per_exit
    if hasattr(source.model, 'macs_per_exit'):
        assert macs == list(source.model.macs_per_exit((3, 96, 160)))
    else:
        assert len(macs) == 1 and macs[0] > 1e6


BLOCKED = '''
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {blocked!r}:
            raise ImportError(name + ' is blocked')

sys.meta_path.insert(0, Block())
from mmdynperceiver.deploy.__main__ import main
sys.exit(main({arguments!r}))
'''


def test_command_line_without_torch(source, photos, tmp_path, run_python):
    (photos / 'broken.jpg').write_bytes(b'broken')
    out = tmp_path / 'out.json'
    code = BLOCKED.format(
        blocked=('torch', 'torchvision', 'mmengine', 'mmcv', 'mmdet', 'onnx'),
        arguments=[
            source.folder.as_posix(), *map(str, sorted(photos.glob('*.*'))),
            '--out',
            str(out)
        ])
    try:
        result = run_python(code)
    finally:
        (photos / 'broken.jpg').unlink()
    assert result.returncode == 0, result.stderr
    assert '6 images; left at exits 0 to' in result.stdout
    assert ' boxes, ' in result.stdout
    assert 'detecting in an image' in result.stdout
    content = json.loads(out.read_text())
    assert len(content['results']) == 6 and len(content['broken']) == 1
    for row in content['results']:
        assert len(row['boxes']) == len(row['scores']) == len(row['names'])
        assert all(len(box) == 4 for box in row['boxes'])


def test_what_does_not_fit_is_refused(source, tmp_path, capsys):
    from mmdynperceiver.deploy.__main__ import main
    with pytest.raises(ValueError, match='holds a detector: mmdynperceiver'):
        Runner.load(source.folder)
    assert main([str(source.folder), 'a.jpg', '--monitor', '0.1']) == 1
    assert 'for which there is no --monitor' in capsys.readouterr().err
    error = run_tool('export', source.config, source.checkpoint,
                     tmp_path / 'out', '--int8-calibration', tmp_path)
    assert 'no image' in error and not (tmp_path / 'out').exists()
    content = json.loads((source.folder / 'manifest.json').read_text())
    from mmdynperceiver.deploy.manifest_schema import check_manifest
    del content['manifest_sha256']
    check_manifest(content)
    for place, value, message in (('levels', [['map9'] * 3] * 3, 'levels'),
                                  ('fills', [content['segments'][0]] * 5,
                                   'fills'),
                                  ('boxes',
                                   dict(
                                       content['detection']['boxes'],
                                       strides=[]), 'boxes.strides must be')):
        wrong = dict(content['detection'], **{place: value})
        with pytest.raises(ValueError, match=message):
            check_manifest(dict(content, detection=wrong))
    del content['preprocessing']['padding']
    with pytest.raises(ValueError, match='preprocessing.padding is there for'):
        check_manifest(content)


@pytest.mark.parametrize('changes, message', [
    (dict(test_cfg=dict(nms=dict(type='soft_nms'))), "nms.type='nms'"),
    (dict(test_cfg=dict(nms_pre=-1)), 'a positive nms_pre'),
])
def test_heads_that_cannot_be_exported(changes, message):
    head = build_detector(early=False).bbox_head
    head.test_cfg.merge_from_dict(changes['test_cfg']) if isinstance(
        head.test_cfg, Config) else head.test_cfg.update(changes['test_cfg'])
    with pytest.raises(ValueError, match=message):
        box_settings(head)
    with pytest.raises(ValueError, match='only a RetinaHead'):
        box_settings(torch.nn.Identity())


@pytest.mark.parametrize('step, message', [
    (dict(type='RandomFlip'), "the transform 'RandomFlip', which cannot"),
    (dict(type='Resize', scale_factor=.5), 'two numbers as scale'),
])
def test_transforms_that_cannot_be_exported(step, message):
    pipeline = [PIPELINE[0], step, PIPELINE[-1]]
    assert is_detection(pipeline)
    with pytest.raises(ValueError, match=message):
        read_detection_preprocessing(pipeline,
                                     dict(type='DetDataPreprocessor'), (9, 9))
