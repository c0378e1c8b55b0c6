# Copyright (c) mmdynperceiver contributors. All rights reserved.
import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmdynperceiver.calibration.confidence import area_under_curve
from mmdynperceiver.calibration.outcomes import ExitOutcomes
from mmdynperceiver.core import OperatingPoint
from mmdynperceiver.core.criteria import CRITERIA
from mmdynperceiver.exit_settings import ENSEMBLES
from mmdynperceiver.report import (Sample, compare_criteria, draw, read_curves,
                                   replacing_report, static_rows,
                                   sweep_budgets, sweep_rows, write_report)
from mmdynperceiver.report.contents import HELD_OUT, Contents
from mmdynperceiver.report.sweep import select, whole_curve
from .test_activation_maps import build

MACS = (100, 200, 400, 1000)


def samples(seed, count=80, num_classes=3):
    """Logits that get better from exit to exit."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % num_classes
    hot = torch.nn.functional.one_hot(labels, num_classes).float()
    logits = tuple(
        torch.randn(count, num_classes, generator=rng) + scale * hot
        for scale in (1., 1.5, 2., 3.))
    return SimpleNamespace(logits=logits, labels=labels, paths=[''] * count)


def write(folder, **changes):
    arguments = dict(
        held_out=samples(0),
        test=samples(1),
        macs=MACS,
        model_name='a <small> net',
        num_budgets=5,
        progress=False)
    arguments.update(changes)
    return write_report(folder, **arguments)


def pictures(index):
    pixels = np.random.default_rng(index).integers(0, 255, (64, 64, 3))
    return Sample(pixels.astype(np.uint8), torch.rand(3, 64, 64))


def test_rows_by_hand():
    # Two exits; exit 0 is right on samples 0 and 1, exit 1 on 0, 1 and 2.
    data = dict(
        all=ExitOutcomes(
            torch.tensor([[0.9, 0.8, 0.4, 0.3], [0.9, 0.9, 0.9, 0.9]]),
            torch.tensor([[True, True, False, False],
                          [True, True, True, False]]), (10, 20)))
    rows = static_rows(data, latency_ms=(1., 3.))
    assert [(row.series, row.utility, row.macs, row.latency_ms)
            for row in rows] == [('exit 0', 0.5, 10., 1.),
                                 ('exit 1', 0.75, 20., 3.)]
    rows = sweep_rows(data['all'], data, [15.], latency_ms=(1., 3.))
    searched, = select(rows, 'search', 'all')
    assert searched.utility == 0.75 and searched.macs <= 15
    # A single sample (number 2) may go on alone only with number 3, so two
    # leave at exit 0 and two at exit 1.
    assert searched.shares == (0.5, 0.5) and searched.latency_ms == 2.
    assert 0.4 < searched.thresholds[0] <= 0.8
    random, = select(rows, 'random', 'all')
    assert random.utility == pytest.approx(0.625)
    assert random.shares == searched.shares


def test_what_is_given_prevails_over_the_first_point():
    point = OperatingPoint((.5, ) * 3, 'entropy', 3.)
    contents = Contents({HELD_OUT: samples(0)}, 'net', 'image', MACS, None,
                        [point], None, (2., ) * 4, None, (), 2, lambda: None)
    assert contents.settings == dict(
        point.settings, criterion='entropy', temperature=(2., ) * 4)


def test_budgets():
    assert sweep_budgets((10, 20), 3) == [10., 12.5, 20.]


def test_criteria_table():
    data, macs = samples(0), (300, 400, 600, 1000)
    pair = data.logits, data.labels
    ticks = []
    rows = compare_criteria(pair, pair, macs, sweep_budgets(macs, 3),
                            lambda: ticks.append(1))
    assert {row.criterion for row in rows} == {*CRITERIA, 'logistic'}
    assert [bool(row.temperature)
            for row in rows] == [False, True] * 3 + [False] * 6
    assert [row.ensemble for row in rows
            if row.ensemble] == [*ENSEMBLES, 'geometric']
    assert len(ticks) == 12
    for row in rows:
        assert len(row.ece) == len(row.auroc) == 4 and row.microseconds > 0
    # A quarter of the last exit's MACs is less than the first one takes.
    assert rows[0].at[0] is None
    accuracy, low, high = rows[0].at[1]
    assert low < accuracy < high
    half = 1.96 * (accuracy * (1 - accuracy) / len(data.labels))**.5
    assert high - low == pytest.approx(2 * half, rel=.2)
    # The first one's area is that of the curve of searched thresholds.
    held_out = ExitOutcomes.of(*pair, macs)
    swept = sweep_rows(held_out, dict(all=held_out), sweep_budgets(macs, 3))
    swept += static_rows(dict(all=held_out))
    curve = whole_curve(swept, 'search', 'all')
    assert rows[0].area == pytest.approx(
        area_under_curve([row.macs for row in curve],
                         [row.utility for row in curve]))
    # Patience at exit 0 is 1/4 for all samples.
    assert rows[6].auroc[0] == 0.5
    accuracy = (data.logits[0].argmax(1) == data.labels).double().mean()
    assert rows[6].ece[0] == pytest.approx(abs(accuracy.item() - 0.25))


def test_tables(tmp_path):
    point = OperatingPoint((0.5, 2., 2.), solved_for=dict(min_accuracy=0.5))
    write(tmp_path / 'report', points=[point], latency_ms=(1, 2, 3, 4))
    folder = tmp_path / 'report'
    rows = list(csv.DictReader((folder / 'curve.csv').open()))
    found = {(row['series'], row['data']) for row in rows}
    series = ['search', 'shares', 'random', *(f'exit {k}' for k in range(4))]
    assert found == {(s, d) for s in series for d in ('held-out', 'test')}
    assert len(rows) == 2 * (3 * 5 + 4)
    accuracy = {}
    for row in rows:
        shares = [float(row[f'share_{k}']) for k in range(4)]
        assert sum(shares) == pytest.approx(1)
        macs = sum(s * m for s, m in zip(shares, MACS))
        assert float(row['macs']) == pytest.approx(macs)
        ms = sum(s * m for s, m in zip(shares, (1, 2, 3, 4)))
        assert float(row['latency_ms']) == pytest.approx(ms)
        if row['data'] == 'held-out' and row['budget']:
            assert float(row['macs']) <= float(row['budget']) * (1 + 1e-9)
            accuracy.setdefault(row['budget'],
                                {})[row['series']] = float(row['accuracy'])
    for both in accuracy.values():
        assert both['search'] >= both['shares']
    curves = {c.name: c for c in read_curves(folder / 'curve.csv')}
    assert list(curves['static exits, test'].macs) == list(MACS)
    assert curves['static exits, test'].labels[3] == 'exit 3'
    # Five budgets, from the first exit to the last.
    search = curves['search, test']
    assert len(search.macs) == 7
    for end in (0, -1):
        assert search.macs[end] == MACS[end]
        assert search.accuracy[end] == curves['static exits, test'].accuracy[
            end]
    content = json.loads((folder / 'curve.json').read_text())
    assert len(content['rows']) == len(rows)
    assert content['judged_on'] == 'test' and len(content['criteria']) == 12
    test = samples(1)
    conf = test.logits[0].softmax(1).amax(1)
    share = (conf >= 0.5).double().mean().item()
    assert content['points'][1]['data'] == 'test'
    assert content['points'][1]['shares'] == pytest.approx(
        [share, 0, 0, 1 - share])
    accuracy, *_, early = content['headline']
    assert content['points'][1]['interval'] == accuracy['interval']
    assert early['value'] == pytest.approx(share)


def test_an_older_report_is_replaced_unless_something_fails(tmp_path):
    folder = tmp_path / 'report'
    with replacing_report(folder) as place:
        (place / 'index.html').write_text('old')

    def broken(index):
        raise OSError('no such image')

    with pytest.raises(OSError, match='no such image'):
        write(folder, num_budgets=2, images=broken)
    assert (folder / 'index.html').read_text() == 'old'
    assert write(folder, num_budgets=2) == folder / 'index.html'
    assert (folder / 'index.html').read_text() != 'old'
    assert [path.name for path in tmp_path.iterdir()] == ['report']


def test_other_folders_are_refused_before_work(tmp_path):
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine/thesis.txt').write_text('years')
    with pytest.raises(FileExistsError, match='holds other files'):
        write(tmp_path / 'mine', held_out=None)


@pytest.mark.parametrize('changes, message', [
    (dict(latency_ms=(1, 2)), 'latency_ms must be one number for each of 4'),
    (dict(macs=(1, 2)), 'costs must be 4'),
    (dict(num_budgets=1), 'at least 2 budgets, got 1'),
    (dict(criterion='luck'), "got 'luck'"),
    (dict(unit='scene'), "'image' or 'clip', got 'scene'"),
])
def test_errors(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path / 'report', **changes)
    assert not list(tmp_path.iterdir())


def test_map_samples_out_of_range(tmp_path):
    with pytest.raises(ValueError, match=r'0 to 79, got \[80\]'):
        write(
            tmp_path / 'report',
            images=pictures,
            model=build(),
            map_samples=[80])
    assert not list(tmp_path.iterdir())


def test_no_map_is_large_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(draw, 'LEAST_PLACES', 9)
    path = write(
        tmp_path / 'report', images=pictures, model=build(), num_budgets=2)
    assert not (path.parent / 'activation_maps.png').exists()
    text = path.read_text()
    assert 'href="#gallery"' in text and 'href="#maps"' not in text
