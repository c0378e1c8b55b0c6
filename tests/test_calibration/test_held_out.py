# Copyright (c) mmdynperceiver contributors. All rights reserved.
import json
import os

import pytest
import torch

from mmdynperceiver.calibration import held_out
from mmdynperceiver.calibration.held_out import (load_thresholds,
                                                 save_thresholds)
from mmdynperceiver.io.atomic import write_json, write_text


def test_round_trip_is_exact(tmp_path):
    path = tmp_path / 't.json'
    save_thresholds(path, (1 / 3, 0.1, 2), note='solved for 1 GMACs')
    assert load_thresholds(path) == (1 / 3, 0.1, 2)
    content = json.loads(path.read_text())
    assert content['criterion'] == 'max_prob'
    assert content['data']['note'] == 'solved for 1 GMACs'


def test_the_criterion_may_be_left_out(tmp_path):
    path = tmp_path / 't.json'
    path.write_text('{"thresholds": [0.5]}')
    assert load_thresholds(path, num_exits=2) == (0.5, )


@pytest.mark.parametrize('text, message', [
    ('', 'is not JSON'),
    ('{', 'is not JSON'),
    ('[0.5, 0.5, 0.5]', "the key 'thresholds'"),
    ('{}', "the key 'thresholds'"),
    ('{"thresholds": [0.5, 0.5]}', 'need 3 thresholds'),
    ('{"thresholds": [0.5, 0.5, NaN]}', 'got nan'),
    ('{"thresholds": [0.5, 0.5, -1]}', 'got -1'),
    ('{"thresholds": "high"}', "got 'high'"),
    ('{"thresholds": null}', 'got None'),
    ('{"thresholds": [1, 1, 1], "criterion": "entropy"}', "'entropy'"),
])
def test_refuses(tmp_path, text, message):
    path = tmp_path / 't.json'
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        load_thresholds(path)
    assert str(path) in str(caught.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere.json'):
        load_thresholds(tmp_path / 'nowhere.json')


def test_bad_thresholds_leave_the_old_file(tmp_path):
    path = tmp_path / 't.json'
    save_thresholds(path, (0.5, ))
    with pytest.raises(ValueError, match='got nan'):
        save_thresholds(path, (float('nan'), ))
    assert load_thresholds(path, num_exits=2) == (0.5, )


def test_a_failed_write_leaves_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / 'a.txt'
    write_text(path, 'old')

    def fail(*args):
        raise OSError('disk full')

    monkeypatch.setattr(os, 'replace', fail)
    with pytest.raises(OSError, match='disk full'):
        write_text(path, 'new')
    assert path.read_text() == 'old'
    assert os.listdir(tmp_path) == ['a.txt']


def test_files_are_as_readable_as_others(tmp_path):
    (tmp_path / 'plain').write_text('')
    write_json(tmp_path / 'ours', [1])
    assert (tmp_path / 'ours').stat().st_mode == \
        (tmp_path / 'plain').stat().st_mode


def test_old_forms_take_costs_apart():
    logits = [torch.tensor([[0., 2.], [1., 0.], [0., 3.]])] * 2
    samples = held_out.HeldOut.of(logits, torch.tensor([1, 1, 0]))
    assert samples.right.tolist() == [[True, False, False]] * 2
    costs = (1, 4)
    thresholds = held_out.search_thresholds(samples, costs, budget=2)
    assert thresholds == held_out.ThresholdSearch(samples, costs).for_budget(2)
    outcome = held_out.evaluate(samples, thresholds, costs)
    assert outcome.accuracy == pytest.approx(1 / 3) and outcome.macs <= 2
    assert held_out.random_exit_outcome(samples, (0.5, 0.5),
                                        costs).macs == pytest.approx(2.5)
    shares = held_out.solve_by_shares(samples, (1 / 3, 2 / 3))
    assert held_out.evaluate(samples, shares, costs).shares[0] == 1 / 3
    cheap = held_out.share_solution_for_budget(samples, costs, 1)
    assert held_out.evaluate(samples, cheap, costs).shares == (1, 0)
    with pytest.raises(ValueError, match='either'):
        held_out.search_thresholds(samples, costs)
