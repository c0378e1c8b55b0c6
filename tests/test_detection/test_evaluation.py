# Copyright (c) mmdynperceiver contributors. All rights reserved.
import os

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from tiny_detector import build_detector, make_batch, write_annotations

from mmdynperceiver.calibration.exit_logits import ExitLogits
from mmdynperceiver.calibration.threshold_search import ThresholdSearch
from mmdynperceiver.detection.evaluation import (ExitDetections,
                                                 PrecisionJudge,
                                                 collect_detections)
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


def exits_of(logits, losses):
    """What the policy decides on, and the loss of each exit: lists (N,)."""
    return ExitLogits(
        tuple(torch.tensor(row)[:, None] for row in logits), None,
        [''] * len(logits[0]), (10., 20., 30.), -torch.tensor(losses).T)


def judge_of(exits, truth):
    """A judge of images whose box exits 1 and 2 find."""
    found = [[instances([MISSED]), instances([FOUND]), instances([FOUND])]]
    samples = [dict(img_id=1, ori_shape=(40, 40))] * len(exits.paths)
    return PrecisionJudge(
        ExitDetections(exits, found * len(samples), samples), truth,
        ('a', 'b'))


def test_precision_of_the_chosen_exits(tmp_path):
    path = str(write_annotations(tmp_path, [BOX]))
    exits = exits_of([[-1.], [0.5], [0.]], [[0.9], [0.3], [0.2]])
    judge = judge_of(exits, path)
    # What has been read once serves all policies.
    os.remove(path)
    assert [(o.utility, o.shares, o.cost) for o in judge.static()
            ] == [(0, (1, 0, 0), 10), (1, (0, 1, 0), 20), (1, (0, 0, 1), 30)]
    # sigmoid(-1) is 0.27 and sigmoid(0.5) is 0.62
    for thresholds, index in (((0.2, 0.), 0), ((0.3, 0.6), 1), ((0.3, 0.7),
                                                                2)):
        assert judge.exit_indices(thresholds).tolist() == [index]
        assert judge.evaluate(thresholds) == judge.static()[index]
    outcomes = exits.outcomes('learned')
    assert outcomes.evaluate((0.3, 0.6)).utility == pytest.approx(-0.3)
    assert [o.utility
            for o in outcomes.static()] == pytest.approx([-0.9, -0.3, -0.2])


def test_thresholds_of_the_least_loss(tmp_path):
    """Going deep pays for every second image, and the policy knows it."""
    gain = torch.tensor([1., 0.] * 10)
    exits = exits_of([(-gain).tolist()] * 2 + [[0.] * 20],
                     [(0.2 + gain).tolist()] * 2 + [[0.2] * 20])
    outcomes = exits.outcomes('learned')
    thresholds = ThresholdSearch(outcomes).for_budget(20.)
    judge = judge_of(exits, str(write_annotations(tmp_path, [BOX])))
    assert judge.exit_indices(thresholds).tolist() == [2, 0] * 10
    assert outcomes.evaluate(thresholds).utility == pytest.approx(-0.2)
    # By chance: as many at each exit, but others.
    draws = []
    judge.precision = lambda stops: draws.append(stops) or dict(bbox_mAP=0.5)
    chance = judge.at_random((0.5, 0., 0.5))
    assert chance == (0.5, (0.5, 0., 0.5), 20.)
    assert len(draws) > 1 and not torch.equal(*draws)
    for stops in draws:
        assert stops.bincount().tolist() == [10, 0, 10]
        assert stops.tolist() != [2, 0] * 10


def test_collects_what_all_exits_find():
    model = build_detector()
    model.policy.set_thresholds((0., 0.))
    batch = make_batch(model, number=3)
    images = [image.clone() for image in batch['inputs']]
    found = collect_detections(model, [
        dict(
            inputs=[image.byte() for image in images],
            data_samples=batch['data_samples'])
    ])
    exits = found.exits
    assert exits.utility.shape == (3, 3) and (exits.utility < 0).all()
    assert [tuple(x.shape) for x in exits.logits] == [(3, 1)] * 3
    assert (exits.logits[2] == 0).all() and exits.labels is None
    assert len(found.found) == 3 and len(found.found[0]) == 3
    assert exits.macs == model.macs_per_exit((3, 64, 64))
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
