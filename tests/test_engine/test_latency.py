# Copyright (c) mmdynperceiver contributors. All rights reserved.
import json

import pytest
import torch

from mmdynperceiver.core import DynPerceiver
from mmdynperceiver.engine import InputError
from mmdynperceiver.engine.latency import (describe_machine, measure_exits,
                                           read_latencies)

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
    machine = describe_machine(torch.device('cpu'))
    assert machine['device'] and machine['threads'] >= 1


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


@pytest.mark.parametrize('latencies, changes, message', [
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
