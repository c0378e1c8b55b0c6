# Copyright (c) mmdynperceiver contributors. All rights reserved.
import json
from types import SimpleNamespace

import pytest
import torch
from mmdet.models.test_time_augs import DetTTAModel
from mmdet.registry import METRICS
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from tiny_detector import write_annotations

from mmdynperceiver.cli.tables import exits_table
from mmdynperceiver.errors import InputError
from mmdynperceiver.hosts.hooks import EvaluateAllExitsHook

BOX = [4., 6., 20., 16.]  # x, y, width, height
FOUND = [[4., 6., 24., 22.]]
MISSED = [[30., 30., 38., 38.]]


def instances(boxes):
    return InstanceData(
        bboxes=torch.tensor(boxes),
        scores=torch.ones(len(boxes)),
        labels=torch.zeros(len(boxes), dtype=torch.long))


def sample(exit_index, *exits):
    predicted = [instances(boxes) for boxes in exits]
    data = dict(
        img_id=1,
        ori_shape=(40, 40),
        exit_index=exit_index,
        macs=10 * (1 + exit_index),
        pred_instances=predicted[exit_index])
    if len(exits) > 1:
        data.update(exit_pred_instances=predicted, exit_macs=(10, 20, 30))
    return data


def evaluate(tmp_path, samples):
    metric = METRICS.build(
        dict(
            type='mmdet.EarlyExitCocoMetric',
            ann_file=str(write_annotations(tmp_path, [BOX]))))
    metric.dataset_meta = dict(classes=('a', 'b'))
    metric.process({}, samples)
    return metric.evaluate(len(samples))


def test_each_exit_and_stopping_early(tmp_path):
    found = evaluate(tmp_path, [sample(1, MISSED, FOUND, MISSED)])
    assert found['exit0/bbox_mAP_50'] == found['exit2/bbox_mAP_50'] == 0
    assert found['exit1/bbox_mAP'] == found['dynamic/bbox_mAP'] == 1
    assert [found[f'exit{k}/share'] for k in range(3)] == [0, 1, 0]
    assert [found[f'exit{k}/macs'] for k in range(3)] == [10, 20, 30]
    assert found['dynamic/macs'] == 20


def test_really_stopping_gives_what_is_known(tmp_path):
    found = evaluate(tmp_path, [sample(0, FOUND)])
    assert found['dynamic/bbox_mAP'] == 1 and found['dynamic/macs'] == 10
    assert 'exit0/bbox_mAP' not in found and found['exit0/share'] == 1


def test_ordinary_detectors_are_refused(tmp_path):
    data = sample(0, FOUND)
    del data['exit_index']
    with pytest.raises(InputError, match='use CocoMetric'):
        evaluate(tmp_path, [data])


def test_table_of_precisions(tmp_path):
    found = evaluate(tmp_path, [sample(1, MISSED, FOUND, MISSED)])
    table = exits_table(found, (0.5, 0.5))
    headings = [str(column.header) for column in table.columns]
    assert headings == [
        'exit', 'box AP (%)', 'AP50 (%)', 'share (%)', 'MACs (M)'
    ]
    assert list(table.columns[1].cells) == ['0.00', '100.00', '0.00', '100.00']


def checked(path, **options):
    metric = METRICS.build(
        dict(type='mmdet.CheckedCocoMetric', ann_file=str(path), **options))
    metric.dataset_meta = dict(classes=('a', 'b'))
    return metric


def edited(tmp_path, boxes, *edits):
    """The annotations of boxes, with changes to each."""
    path = write_annotations(tmp_path, boxes)
    content = json.loads(path.read_text())
    for annotation, edit in zip(content['annotations'], edits):
        annotation.update(edit)
    path.write_text(json.dumps(content))
    return path


def test_what_pycocotools_cannot_read_is_completed(tmp_path):
    """An id of 0 would be taken for no match, and iscrowd is asked for."""
    path = edited(tmp_path, [BOX], dict(id=0))
    content = json.loads(path.read_text())
    del content['annotations'][0]['iscrowd'], content['annotations'][0]['area']
    path.write_text(json.dumps(content))
    metric = checked(path)
    metric.process({}, [sample(0, FOUND)])
    assert metric.evaluate(1)['coco/bbox_mAP'] == 1


def test_boxes_are_evaluated_against_as_in_the_file(tmp_path):
    """As in COCO's own evaluation: one of two boxes was found."""
    path = edited(tmp_path, [BOX, [30, 30, 0, 5]])
    for policy in ('raise', 'skip'):
        metric = checked(path, on_bad_box=policy)
        metric.process({}, [sample(0, FOUND)])
        assert metric.evaluate(1)['coco/bbox_mAP'] == pytest.approx(
            0.5, abs=0.01)


def test_a_box_that_is_none_is_named_or_left_out(tmp_path):
    path = edited(tmp_path, [BOX, BOX], {}, dict(bbox=None))
    with pytest.raises(InputError, match='annotation 2 .*bbox None'):
        checked(path)
    metric = checked(path, on_bad_box='skip')
    metric.process({}, [sample(0, FOUND)])
    assert metric.evaluate(1)['coco/bbox_mAP'] == 1


def test_files_of_other_images(tmp_path):
    metric = checked(write_annotations(tmp_path, [BOX]))
    for other in (dict(img_id=7), dict(img_path='data/other.png')):
        with pytest.raises(
                InputError, match="give the evaluator the data set"):
            metric.process({}, [dict(sample(0, FOUND), **other)])
    metric.process({}, [dict(sample(0, FOUND), img_path='data/image.png')])
    with pytest.raises(InputError, match='no annotation file .*none.json'):
        checked(tmp_path / 'none.json')
    with pytest.raises(InputError, match='lists no annotation'):
        checked(write_annotations(tmp_path, []))


def test_views_of_an_image_are_merged_at_each_exit(tmp_path):
    """Exit 1 finds the box in the flipped view alone."""
    flipped = [[40 - x2, y1, 40 - x1, y2] for x1, y1, x2, y2 in FOUND]
    views = []
    for boxes, flip in ((MISSED, False), (flipped, True)):
        data = sample(2, MISSED, boxes, MISSED)
        view = DetDataSample(
            metainfo=dict(
                img_id=data.pop('img_id'),
                ori_shape=data.pop('ori_shape'),
                flip=flip,
                flip_direction='horizontal'))
        view.set_data(dict(data, exit_confidence=1.))
        views.append(view)
    model = torch.nn.Module()
    model.evaluate_all_exits = False
    model.test_step = lambda data: [views.pop(0)]
    tta = DetTTAModel(
        tta_cfg=ConfigDict(
            nms=dict(type='nms', iou_threshold=0.5), max_per_img=100),
        module=model)
    EvaluateAllExitsHook().before_test(SimpleNamespace(model=tta))
    merged, = tta.test_step(dict(inputs=[[0], [0]], data_samples=[[0], [0]]))
    found = evaluate(tmp_path, [{**merged.metainfo, **dict(merged.items())}])
    assert found['exit0/bbox_mAP'] == found['exit2/bbox_mAP'] == 0
    assert found['exit1/bbox_mAP'] >= 0.5  # the other view's box is wrong
    assert [found[f'exit{k}/macs'] for k in range(3)] == [20, 40, 60]
    assert found['dynamic/macs'] == 60 and found['dynamic/bbox_mAP'] == 0
