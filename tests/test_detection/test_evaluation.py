# Copyright (c) mmdynperceiver contributors. All rights reserved.
import os

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from tiny_detector import build_detector, make_batch, write_annotations

from mmdynperceiver.calibration.threshold_search import ThresholdSearch
from mmdynperceiver.detection.evaluation import (ExitDetections,
                                                 collect_detections,
                                                 random_exits)
from mmdynperceiver.detection.pictures import draw_detections, match_boxes
from mmdynperceiver.errors import InputError

BOX = [4., 6., 20., 16.]  # x, y, width, height
FOUND, MISSED = [4., 6., 24., 22.], [30., 30., 38., 38.]


def instances(boxes, scores=None, labels=None):
    count = len(boxes)
    return InstanceData(
        bboxes=torch.tensor(boxes).reshape(-1, 4),
        scores=torch.tensor(scores or [1.] * count),
        labels=torch.tensor(labels or [0] * count))


@pytest.fixture
def one_image():
    """An image whose box exits 1 and 2 find."""
    return ExitDetections(
        logits=torch.tensor([[-1.], [0.5], [0.]]),
        losses=torch.tensor([[0.9], [0.3], [0.2]]),
        found=[[instances([MISSED]),
                instances([FOUND]),
                instances([FOUND])]],
        samples=[dict(img_id=1, ori_shape=(40, 40))],
        macs=(10., 20., 30.),
        classes=('a', 'b'))


def test_precision_of_the_chosen_exits(one_image, tmp_path):
    path = str(write_annotations(tmp_path, [BOX]))
    for index, expected in enumerate((0, 1, 1)):
        row = one_image.row('x', 'test', torch.tensor([index]), path)
        assert row.accuracy == expected
        assert row.macs == 10 * (index + 1)
    static = one_image.static_rows('test', path)
    assert [row.accuracy for row in static] == [0, 1, 1]
    # What has been read once serves all rows.
    truth = one_image.metric(path)
    os.remove(path)
    assert one_image.static_rows('test', truth) == static


def test_thresholds_replay_the_policy(one_image):
    # sigmoid(-1) is 0.27 and sigmoid(0.5) is 0.62
    assert one_image.exit_indices((0.2, 0.)).tolist() == [0]
    assert one_image.exit_indices((0.3, 0.6)).tolist() == [1]
    assert one_image.exit_indices((0.3, 0.7)).tolist() == [2]
    assert one_image.mean_loss((0.3, 0.6)) == pytest.approx(0.3)
    assert one_image.exit_losses() == pytest.approx([0.9, 0.3, 0.2])


def test_thresholds_of_the_least_loss():
    """Going deep pays for every second image, and the policy knows it."""
    gain = torch.tensor([1., 0.] * 10)
    detections = ExitDetections(
        logits=torch.stack([-gain, -gain, 0 * gain]),
        losses=torch.stack([0.2 + gain, 0.2 + gain, 0.2 + 0 * gain]),
        found=[],
        samples=[],
        macs=(10., 20., 30.),
        classes=())
    search = ThresholdSearch(detections.held_out, detections.macs)
    thresholds = search.for_budget(20.)
    stops = detections.exit_indices(thresholds)
    assert stops.tolist() == [2, 0] * 10
    assert detections.mean_loss(thresholds) == pytest.approx(0.2)
    chance = random_exits(stops)
    assert chance.bincount().tolist() == stops.bincount().tolist()
    assert chance.tolist() != stops.tolist()


def test_collects_what_all_exits_find():
    model = build_detector()
    model.policy.set_thresholds((0., 0.))
    batch = make_batch(model, number=3)

    class Data:
        dataset = type('', (), dict(metainfo=dict(classes=('a', ))))

        def __iter__(self):
            images = [image.clone() for image in batch['inputs']]
            yield dict(
                inputs=[image.byte() for image in images],
                data_samples=batch['data_samples'])

    found = collect_detections(model, Data())
    assert found.logits.shape == found.losses.shape == (3, 3)
    assert (found.logits[2] == 0).all() and (found.losses > 0).all()
    assert len(found.found) == 3 and len(found.found[0]) == 3
    assert found.macs == model.macs_per_exit((3, 64, 64))
    assert not model.evaluate_all_exits and not model.keep_losses


def test_refuses_data_without_annotations():
    model = build_detector()
    batch = make_batch(model, number=1)
    del batch['data_samples'][0].gt_instances
    with pytest.raises(InputError, match='put LoadAnnotations before Resize'):
        collect_detections(model, [batch])
    with pytest.raises(InputError, match='no images'):
        collect_detections(model, [])


def test_boxes_match_once_and_by_class():
    truth = instances([FOUND, MISSED], labels=[0, 1])
    predicted = instances([FOUND, FOUND, MISSED],
                          scores=[0.5, 0.9, 0.8],
                          labels=[0, 0, 0])
    match = match_boxes(predicted, truth)
    assert match.right.tolist() == [False, True, False]
    assert match.found.tolist() == [True, False]
    empty = match_boxes(instances([]), truth)
    assert empty.found.tolist() == [False, False]
    assert match_boxes(predicted, instances([])).right.sum() == 0


def test_drawn_boxes_tell_right_from_wrong():
    truth = instances([FOUND])
    pixels = np.full((40, 40, 3), 90, np.uint8)
    colours = {}
    for name, boxes in (('right', [FOUND]), ('wrong', [MISSED]), ('none', [])):
        predicted = instances(boxes)
        drawn = draw_detections(pixels, predicted, truth,
                                match_boxes(predicted, truth), ('a', 'b'))
        assert drawn.shape[0] >= 288 and (pixels == 90).all()
        colours[name] = {
            tuple(c)
            for c in np.unique(drawn.reshape(-1, 3), axis=0)
        }
    assert (0, 150, 100) in colours['right']
    assert {(215, 50, 20), (255, 255, 255)} <= colours['wrong']
    assert colours['none'] == {(90, 90, 90), (255, 255, 255)}


@pytest.mark.parametrize('name', ['cat', 'Ёжик', '日本の犬', 'x' * 60])
def test_names_are_written_on_a_ground_of_their_own(name):
    pixels = np.full((40, 40, 3), 90, np.uint8)
    predicted = instances([[20., 20., 39., 39.]])
    match = match_boxes(predicted, predicted)
    drawn = draw_detections(pixels, predicted, predicted, match, (name, ))
    # Above the box: letters of white on the colour of the box.
    place = drawn[:160].reshape(-1, 3)
    ground = (place == (0, 150, 100)).all(1).sum()
    letters = (place == 255).all(1).sum()
    assert ground > letters > 20
    # Nothing is written outside, or cut off at its right end.
    assert (drawn[130:158, :3] == 90).all() or len(name) > 20
    tag = (drawn[:155] == (0, 150, 100)).all(2).any(0).nonzero()[0]
    assert (drawn[:155, tag.max() - 1] != 255).any(1).all()
