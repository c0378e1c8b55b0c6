# Copyright (c) mmdynperceiver contributors. All rights reserved.
import json

import pytest
import torch

from mmdynperceiver.calibration import logit_cache
from mmdynperceiver.calibration.exit_logits import ExitLogits
from mmdynperceiver.calibration.logit_cache import cached_exit_logits
from mmdynperceiver.errors import InputError

NUM = 10
LOGITS = torch.arange(NUM * 6.).reshape(2, NUM, 3)
IDENTITY = dict(checkpoint='c', data='d', transform='t')


def part(start, stop):
    return ExitLogits(
        tuple(LOGITS[:, start:stop]), torch.arange(start, stop),
        [str(i) for i in range(start, stop)], (1., 2.))


class Network:
    """Counts from where it ran; may be interrupted."""

    def __init__(self, stop_at=None):
        self.starts = []
        self.stop_at = stop_at

    def __call__(self, start):
        self.starts.append(start)
        for index in range(start, NUM, 2):
            if index == self.stop_at:
                raise KeyboardInterrupt
            yield part(index, min(index + 2, NUM))


def check(found):
    assert torch.equal(torch.stack(found.exits.logits), LOGITS)
    assert found.exits.labels.tolist() == list(range(NUM))
    assert found.exits.paths == [str(i) for i in range(NUM)]
    assert found.exits.macs == (1., 2.)


def test_runs_once(tmp_path):
    network = Network()
    check(cached_exit_logits(tmp_path, IDENTITY, NUM, network))
    found = cached_exit_logits(tmp_path, IDENTITY, NUM, network)
    check(found)
    assert network.starts == [0] and found.num_reused == NUM


@pytest.mark.parametrize('part_size', [2, 4, 100])
def test_goes_on_after_an_interrupt(tmp_path, monkeypatch, part_size):
    monkeypatch.setattr(logit_cache, 'PART_SIZE', part_size)
    with pytest.raises(KeyboardInterrupt):
        cached_exit_logits(tmp_path, IDENTITY, NUM, Network(stop_at=6))
    network = Network()
    found = cached_exit_logits(tmp_path, IDENTITY, NUM, network)
    check(found)
    assert network.starts == [6] and found.num_reused == 6
    assert not list(tmp_path.rglob('*.tmp'))


@pytest.mark.parametrize('key', list(IDENTITY))
def test_not_used_for_something_else(tmp_path, key):
    cached_exit_logits(tmp_path, IDENTITY, NUM, Network())
    network = Network()
    found = cached_exit_logits(tmp_path, dict(IDENTITY, **{key: 'other'}), NUM,
                               network)
    assert network.starts == [0] and found.num_reused == 0


def test_identity_is_compared_in_full(tmp_path):
    folder = cached_exit_logits(tmp_path, IDENTITY, NUM, Network()).folder
    (folder / 'identity.json').write_text(json.dumps(dict(IDENTITY, data='x')))
    network = Network()
    cached_exit_logits(tmp_path, IDENTITY, NUM, network)
    assert network.starts == [0]


@pytest.mark.parametrize('content', [b'', b'text', None])
def test_broken_parts_run_again(tmp_path, monkeypatch, content):
    monkeypatch.setattr(logit_cache, 'PART_SIZE', 4)
    folder = cached_exit_logits(tmp_path, IDENTITY, NUM, Network()).folder
    second = folder / 'part-00000004.pt'
    whole = second.read_bytes()
    second.write_bytes(whole[:len(whole) // 2] if content is None else content)
    network = Network()
    check(cached_exit_logits(tmp_path, IDENTITY, NUM, network))
    assert network.starts == [4]


def test_refuses_what_is_not_there(tmp_path):
    with pytest.raises(InputError, match='no images for held-out images'):
        cached_exit_logits(tmp_path, IDENTITY, 0, Network(), 'held-out images')
    with pytest.raises(InputError, match='10 images instead of 12'):
        cached_exit_logits(tmp_path, IDENTITY, 12, Network())


def test_utilities_instead_of_labels(tmp_path, monkeypatch):
    """As detectors have them."""
    monkeypatch.setattr(logit_cache, 'PART_SIZE', 4)

    def run(start):
        return (part(i, i + 2)._replace(
            labels=None, utility=-LOGITS[:, i:i + 2, 0].T)
                for i in range(start, NUM, 2))

    for reused in (0, NUM):
        found = cached_exit_logits(tmp_path, IDENTITY, NUM, run)
        assert found.num_reused == reused and found.exits.labels is None
        outcomes = found.exits.outcomes('margin')
        assert torch.equal(outcomes.utility, -LOGITS[..., 0])
        assert outcomes.cost == (1, 2) and outcomes.measure == 'utility'
