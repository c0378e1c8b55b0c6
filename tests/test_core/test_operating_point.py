# Copyright (c) mmdynperceiver contributors. All rights reserved.
import json

import pytest

from mmdynperceiver.core import (DynPerceiver, ExitPolicy, OperatingPoint,
                                 describe_model, load_thresholds,
                                 save_thresholds)

MODEL = dict(num_exits=4, num_classes=10, parameters=123)


def make_point(**changes):
    settings = dict(
        thresholds=(1 / 3, 0.5, 2),
        criterion='entropy',
        temperature=(1, 2, 3, 0.1),
        solver='search',
        solved_for=dict(budget_macs=1e6),
        expected=dict(accuracy=0.9, shares=[0.5, 0.25, 0.25, 0], macs=9e5),
        data=dict(samples=100),
        checkpoint=dict(name='a.pth'),
        model=MODEL)
    return OperatingPoint(**{**settings, **changes})


def test_round_trip_is_exact(tmp_path):
    point = make_point()
    point.save(tmp_path / 'p.json')
    assert OperatingPoint.load(tmp_path / 'p.json', 4, MODEL) == point
    policy = ExitPolicy.from_operating_point(point)
    assert policy.thresholds == point.thresholds
    assert policy.criterion == 'entropy'
    assert policy.temperature == (1, 2, 3, 0.1)


def test_files_of_thresholds_alone(tmp_path):
    save_thresholds(tmp_path / 't.json', (0.1, 0.2), note='not known')
    point = OperatingPoint.load(tmp_path / 't.json', model=MODEL)
    assert point == OperatingPoint((0.1, 0.2), num_exits=3)


@pytest.mark.parametrize('changes, message', [
    (dict(num_exits=3), 'made for 3 exits.* has 4'),
    (dict(model={
        **MODEL, 'num_classes': 7
    }), 'another model: its num_classes is 7, here it is 10'),
    (dict(criterion='loudness'), "one of max_prob.* got 'loudness'"),
    (dict(temperature=[1, 1]), 'need 4 temperatures'),
    (dict(temperature=[1, 1, 1, -1]), 'exit 3 .*got -1'),
    (dict(thresholds=[0.5]), 'need 3 thresholds'),
    (dict(thresholds=3), 'got 3'),
    (dict(expected=[1]), r'expected must be a dict, got \[1\]'),
])
def test_refuses(tmp_path, changes, message):
    path = tmp_path / 'p.json'
    make_point().save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(ValueError, match=message) as caught:
        OperatingPoint.load(path, 4, MODEL)
    assert str(path) in str(caught.value)


def test_thresholds_alone_would_mean_something_else(tmp_path):
    make_point(criterion='max_prob').save(tmp_path / 'p.json')
    with pytest.raises(ValueError, match='temperatures.*OperatingPoint'):
        load_thresholds(tmp_path / 'p.json')
    make_point(
        criterion='max_prob', temperature=None).save(tmp_path / 'p.json')
    assert load_thresholds(tmp_path / 'p.json') == (1 / 3, 0.5, 2)


def test_what_tells_models_apart():
    net = DynPerceiver('resnet18', width=0.25, num_classes=10)
    described = describe_model(*net.exit_parts())
    assert described == dict(
        num_exits=4,
        num_classes=10,
        parameters=sum(p.numel() for p in net.parameters()))
