# Copyright (c) mmdynperceiver contributors. All rights reserved.
import os

import pytest
import torch
from mmengine.logging import HistoryBuffer
from torch import nn

from mmdynperceiver.core import ExitPolicy
from mmdynperceiver.errors import InputError
from mmdynperceiver.io import checkpoints
from mmdynperceiver.io.checkpoints import (atomic_save, load_matching,
                                           load_strict, read_weights)


def save(tmp_path, content):
    path = str(tmp_path / 'c.pth')
    torch.save(content, path)
    return path


class Hostile:

    def __reduce__(self):
        return os.getcwd, ()


def test_reads_what_mmengine_writes(tmp_path):
    hub = dict(log_scalars=dict(loss=HistoryBuffer([1.], [1])))
    path = save(
        tmp_path,
        dict(state_dict={'module.weight': torch.ones(2)}, message_hub=hub))
    assert list(read_weights(path)) == ['weight']


def test_reads_bare_state_dicts(tmp_path):
    weights = read_weights(save(tmp_path, dict(weight=torch.ones(2))))
    assert torch.equal(weights['weight'], torch.ones(2))


@pytest.mark.parametrize('content, message', [
    (dict(state_dict={}, hook=Hostile()), 'read safely.*getcwd'),
    (dict(state_dict=[1]), 'no state dict'),
    ([1], 'must hold a state dict'),
    (dict(model=dict(latent=torch.ones(1))), 'convert_official.py'),
    (dict(state_dict={1: torch.ones(1)}), "c.pth': .*got 1: Tensor"),
    (dict(state_dict=dict(w=3)), "c.pth': .*got 'w': int"),
    (dict(state_dict=dict(w=torch.ones(1) / 0)), "c.pth': .*'w' holds NaN"),
    (dict(meta=dict(), weight=torch.ones(1)), "got 'meta': dict"),
])
def test_refuses_files(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        read_weights(save(tmp_path, content))


def test_missing_file_is_named():
    with pytest.raises(InputError, match='nowhere.pth'):
        read_weights('nowhere.pth')


def test_loads_what_fits():
    model = nn.BatchNorm1d(2)
    weights = nn.BatchNorm1d(2).state_dict()
    weights['weight'] = torch.tensor([2., 3.])
    del weights['num_batches_tracked']
    load_strict(model, weights, 'file')
    assert model.weight.tolist() == [2, 3]


def test_operating_points_are_of_any_size():
    """They grow with the criterion, which thresholds may change."""
    plain, other = ExitPolicy(3), ExitPolicy(3, (0.5, 0.5), 'margin')
    for source, target in ((plain, other), (other, plain)):
        load_strict(target, source.state_dict(), 'file')
    assert plain.criterion == 'margin' and plain.thresholds == (0.5, 0.5)


def test_copies_are_whole_or_absent(tmp_path):
    path = tmp_path / 'copy.pth'
    atomic_save(dict(a=torch.ones(2)), path)
    with pytest.raises(Exception, match='pickle'):
        atomic_save(dict(a=lambda: None), path)
    assert torch.equal(torch.load(path)['a'], torch.ones(2))
    assert [p.name for p in tmp_path.iterdir()] == ['copy.pth']


@pytest.mark.parametrize('change, message', [
    (lambda w: w.pop('weight'), 'missing: weight$'),
    (lambda w: w.update(more=torch.ones(1)), 'unexpected: more$'),
    (lambda w: w.update(weight=torch.ones(3, 2)),
     r'wrong shape: weight is \(3, 2\) instead of \(2, 2\)$'),
])
def test_names_what_does_not_fit(change, message):
    weights = nn.Linear(2, 2).state_dict()
    change(weights)
    with pytest.raises(InputError, match=message):
        load_strict(nn.Linear(2, 2), weights, 'file')


@pytest.mark.parametrize('dtype', [torch.bool, torch.int64])
def test_names_what_is_of_another_kind(dtype):
    weights = nn.Linear(2, 2).state_dict()
    weights['bias'] = weights['bias'].to(dtype)
    model = nn.Linear(2, 2)
    before = model.weight.clone()
    with pytest.raises(InputError, match='wrong type: bias is .* of float32'):
        load_strict(model, weights, 'file')
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_other_precisions_are_converted_and_logged(tmp_path, monkeypatch,
                                                   dtype):
    logged = []
    monkeypatch.setattr(checkpoints, 'print_log',
                        lambda text, **_: logged.append(text))
    given = nn.Linear(2, 2).to(dtype)
    path = save(tmp_path, given.state_dict())
    model = nn.Linear(2, 2)
    load_strict(model, read_weights(path), path)
    assert torch.equal(model.weight, given.weight.float())
    name = str(dtype).removeprefix('torch.')
    assert logged == [
        f'the weights of {path!r} are converted from {name} to float32'
    ]
    part = nn.Linear(2, 2)
    assert f'converted from {name}' in load_matching(part, path)
    assert torch.equal(part.bias, given.bias.float())


def test_a_part_takes_no_other_kind_of_numbers(tmp_path):
    weights = nn.Linear(2, 2).state_dict()
    weights['bias'] = weights['bias'].long()
    model = nn.Linear(2, 2)
    before = model.bias.clone()
    report = load_matching(model, save(tmp_path, weights))
    assert 'other shape or type, so they keep their initial values: bias' in \
        report
    assert torch.equal(model.bias, before)
    assert torch.equal(model.weight, weights['weight'])
