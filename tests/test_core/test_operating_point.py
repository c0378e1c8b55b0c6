# Copyright (c) mmdynperceiver contributors. All rights reserved.
import dataclasses
import json

import pytest

from mmdynperceiver.calibration.held_out import (load_thresholds,
                                                 save_thresholds)
from mmdynperceiver.core import DynPerceiver, ExitPolicy, OperatingPoint
from mmdynperceiver.core.operating_point import describe_model
from mmdynperceiver.exit_settings import POINT_FIELDS

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
    assert point == OperatingPoint((0.1, 0.2), data=dict(note='not known'))
    (tmp_path / 't.json').write_text('{"thresholds": [0.1, 0.2]}')
    point = OperatingPoint.load(tmp_path / 't.json', model=MODEL)
    assert point == OperatingPoint((0.1, 0.2), num_exits=3)


@pytest.fixture
def sweep(tmp_path):
    """A file of two points."""
    path = tmp_path / 'sweep.json'
    points = [make_point(), make_point(thresholds=(0, 0, 0))]
    path.write_text(
        json.dumps(dict(points=[dataclasses.asdict(p) for p in points])))
    return path


def test_a_point_of_several(sweep):
    assert OperatingPoint.load(f'{sweep}:0', 4, MODEL) == make_point()
    assert OperatingPoint.load(f'{sweep}:1', 4).thresholds == (0, 0, 0)
    assert [p.thresholds[1] for p in OperatingPoint.load_all(sweep)] == [.5, 0]
    with pytest.raises(ValueError, match='holds 2 .* by its number.*json:1$'):
        OperatingPoint.load(sweep)
    with pytest.raises(ValueError, match='has no operating point 2: .*json:1'):
        OperatingPoint.load(f'{sweep}:2')


def test_a_number_of_a_single_point(tmp_path):
    make_point().save(tmp_path / 'p.json')
    assert OperatingPoint.load(f'{tmp_path}/p.json:0') == make_point()
    assert OperatingPoint.load_all(tmp_path / 'p.json') == [make_point()]
    with pytest.raises(ValueError, match='has no operating point 1'):
        OperatingPoint.load(f'{tmp_path}/p.json:1')
    with pytest.raises(FileNotFoundError, match="at '.*none.json'"):
        OperatingPoint.load(f'{tmp_path}/none.json:1')
    # A name may end like a number.
    make_point(solver='shares').save(tmp_path / 'p.json:1')
    assert OperatingPoint.load(f'{tmp_path}/p.json:1').solver == 'shares'


@pytest.mark.parametrize('text', [
    '[' * 100000, '{"thresholds": [1e999999, {}]}', '{"points": []}',
    '{"points": [1]}', '{"points": [{"solver": "search"}]}',
    '{"thresholds": [1' + '0' * 400 + ', 1]}',
    '{"points": [{"thresholds": [1]}], "criterion": "entropy"}'
])
def test_content_that_is_none(tmp_path, text):
    (tmp_path / 'p.json').write_text(text)
    with pytest.raises(ValueError, match='thresholds file .*p.json'):
        OperatingPoint.load(tmp_path / 'p.json')


def test_byte_order_mark(tmp_path):
    (tmp_path / 'p.json').write_text('\ufeff{"thresholds": [0.5]}')
    assert OperatingPoint.load(tmp_path / 'p.json').thresholds == (0.5, )


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
    (dict(certificate=dict(thresholds=[1, 1, 1])),
     'are not those of the certificate'),
    (dict(expected=[1]), r'expected must be a dict, got \[1\]'),
    (dict(temperatures=[1, 2, 3, 4]),
     "unknown field 'temperatures'; known are .*temperature.*correct the name"
     ),
])
def test_refuses(tmp_path, changes, message):
    path = tmp_path / 'p.json'
    make_point().save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(ValueError, match=message) as caught:
        OperatingPoint.load(path, 4, MODEL)
    assert str(path) in str(caught.value)


def test_fields_are_those_of_the_class():
    assert POINT_FIELDS == tuple(
        f.name for f in dataclasses.fields(OperatingPoint))


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
