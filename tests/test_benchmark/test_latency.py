# Copyright (c) mmdynperceiver contributors. All rights reserved.
import json
import time

import numpy
import pytest
import torch

from mmdynperceiver.benchmark import latency
from mmdynperceiver.benchmark.latency import (describe_machine, measure_exits,
                                              read_latencies, summary,
                                              time_in_turn)
from mmdynperceiver.core import DynPerceiver
from mmdynperceiver.errors import InputError

MODEL = dict(num_exits=2, num_classes=3, parameters=7)


class Counted(torch.nn.Module):
    """An early-exit model."""

    def __init__(self):
        super().__init__()
        self.net = DynPerceiver('resnet18', 3, width=0.25, num_latents=8)

    def exit_parts(self):
        return self.net.trunk, self.net.exits


def test_measures_each_exit():
    rows = measure_exits(
        Counted(), [torch.randn(1, 3, 32, 32)], runs=3, warmup=1)
    assert [row['exit'] for row in rows] == [0, 1, 2, 3]
    for row in rows:
        assert 0 < row['min_ms'] <= row['median_ms'] <= row['p90_ms']


def test_machine():
    machine = describe_machine(torch.device('cpu'), ['numpy'])
    assert machine['device'] and machine['threads'] >= 1
    assert machine['numpy'] == numpy.__version__


def record(calls, *key):
    """A pass that notes when it runs, and on what."""
    return lambda batch: calls.append((*key, batch.item()))


def test_networks_take_turns():
    calls = []
    groups = [[record(calls, g, k) for k in range(3)] for g in range(2)]
    batches = [torch.zeros(()), torch.ones(())]
    times = time_in_turn(groups, batches, runs=20, warmup=1)
    assert [[len(values) for values in group]
            for group in times] == [[20] * 3] * 2
    turns = [calls[i:i + 3] for i in range(0, len(calls), 3)]
    assert len(turns) == 2 * 21
    for turn in turns:
        assert len({(g, batch) for g, _, batch in turn}) == 1
        assert {k for _, k, _ in turn} == {0, 1, 2}
    # One network goes first, then the other; warm-up is a round of its own.
    first = [turn[0][0] for turn in turns[::2]]
    assert first[:4] == [0, 1, 0, 1]
    assert [turn[0][2] for turn in turns[::2]][:4] == [1, 0, 1, 0]
    # What stands where in a turn is not always the same.
    assert {turn[0][1] for turn in turns} == {0, 1, 2}


def test_a_turn_is_some_rounds_behind_an_untimed_pass(monkeypatch):
    monkeypatch.setattr(latency, 'LEAD_MS', 1e-9)
    calls = []
    groups = [[record(calls, g)] for g in 'ab']
    leads = [record(calls, g + '0') for g in 'ab']
    times = time_in_turn(
        groups, [torch.tensor(0), torch.tensor(1)],
        3,
        0,
        leads,
        rounds_per_turn=2)
    assert calls == [('a0', 0), ('a', 0), ('a', 1), ('b0', 0), ('b', 0),
                     ('b', 1), ('b0', 0), ('b', 0), ('a0', 0), ('a', 0)]
    assert [len(values) for values, in times] == [3, 3]


def test_the_untimed_pass_runs_for_a_while(monkeypatch):
    spent = iter([30., 30., 30., 5.])
    monkeypatch.setattr(latency, '_time', lambda *_: next(spent))
    monkeypatch.setattr(latency, 'LEAD_MS', 80)
    assert time_in_turn([[None]], [None], 1, 0, [None]) == [[[5.]]]


def test_summary():
    values = [float(value) for value in range(200, 0, -1)]
    assert summary(values) == dict(
        median_ms=100.5, p90_ms=180, p99_ms=198, min_ms=1)


@pytest.fixture
def table(tmp_path):

    def write(latencies=(1.5, 2.5), **changes):
        path = tmp_path / 'latency.json'
        content = dict(
            exits=[dict(median_ms=value) for value in latencies],
            model=MODEL,
            batch_size=1)
        path.write_text(json.dumps({**content, **changes}))
        return path

    return write


def test_reads_a_table(table):
    assert read_latencies(table(), MODEL) == (1.5, 2.5)
    # An exit that costs no more than noise.
    assert read_latencies(table((2., 1.9)), MODEL) == (2., 2.)


@pytest.mark.parametrize('latencies, changes, message', [
    ((0., 1.), {}, 'positive .* got 0, 1 ms'),
    ((2., 1.), {}, 'grow from exit to exit, got 2, 1 ms'),
    ((1., 2., 3.), {}, 'has 3 exits and the model has 2'),
    ((1., 2.), dict(batch_size=8), 'batches of 8'),
    ((1., 2.), dict(model=dict(MODEL, parameters=8)),
     'another model: its parameters is 8, here it is 7'),
    ((1., 2.), dict(exits=3), 'no latency table'),
])
def test_refuses_tables(table, latencies, changes, message):
    with pytest.raises(InputError, match=message):
        read_latencies(table(latencies, **changes), MODEL)


def test_refuses_other_files(tmp_path):
    with pytest.raises(InputError, match='nowhere.json.*No such file'):
        read_latencies(tmp_path / 'nowhere.json', MODEL)
    (tmp_path / 'text.json').write_text('text')
    with pytest.raises(InputError, match='no latency table'):
        read_latencies(tmp_path / 'text.json', MODEL)


def test_time_that_others_take_is_not_cpu_time():
    """Sleeping takes no core."""
    images = [torch.zeros(1)]

    def work(batch):
        time.sleep(0.05)

    (wall, ), = time_in_turn([[work]], images, 3, 0)
    (cpu, ), = time_in_turn([[work]], images, 3, 0, clock='cpu')
    assert min(wall) >= 50 > 25 > min(cpu)
