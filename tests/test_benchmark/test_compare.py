# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Timing several networks side by side."""
import pytest
import torch
from torch import nn

from mmdynperceiver.benchmark import compare as benchmark
from mmdynperceiver.benchmark.entries import (BenchmarkEntry, all_exits_pass,
                                              early_exit_entry,
                                              policy_for_shares, static_entry)
from mmdynperceiver.benchmark.peak_memory import peak_memory
from mmdynperceiver.core import DynPerceiver, ExitPolicy, Prediction


@pytest.fixture
def net():
    """A tiny network."""
    return DynPerceiver(
        'resnet18',
        num_classes=3,
        width=0.25,
        num_latents=8,
        depth_factor=(0, 0, 1 / 9, 1 / 3)).eval()


@pytest.fixture
def images():
    """Eight images."""
    return torch.randn(8, 3, 32, 32)


def test_compares(net, images):
    policy = policy_for_shares(
        all_exits_pass(net), images, (0.5, 0.25, 0, 0.25))
    entries = [
        early_exit_entry('ours', 'eager', net, (3, 32, 32), policy),
        static_entry('other', nn.Sequential(nn.Flatten()))
    ]
    ours, other = benchmark.compare(
        entries, images, batch_size=4, runs=4, warmup=1, bases=[1, 0])
    assert [row['exit'] for row in ours['exits']] == [0, 1, 2, 3]
    assert [row['macs']
            for row in ours['exits']] == list(net.macs_per_exit((3, 32, 32)))
    assert other['exits'][0]['of_base'] == 1
    assert ours['exits'][3]['of_bases'][1] == 1
    assert other['exits'][0]['of_bases'][1] < 1
    assert all(row['of_base'] > 1 for row in ours['exits'])
    assert 'dynamic' not in other
    dynamic = ours['dynamic']
    assert dynamic['shares'] == [0.5, 0.25, 0, 0.25]
    assert dynamic['images_per_s'] == pytest.approx(4000 / dynamic['mean_ms'])
    assert dynamic['of_ideal'] > 0 and dynamic['of_last'] > 0


def test_ideal_is_the_shares_of_each_batch():
    """One batch leaves at exit 0 and takes 3 ms, the other at 1 and 6."""
    row = benchmark._dynamic_row(4, [[2., 2.], [4., 4.], [3., 6.]],
                                 [[1., 0.], [0., 1.]], [[2., 2.], [1., 8.]])
    assert row['shares'] == [0.5, 0.5]
    assert row['of_ideal'] == 1.5
    assert row['of_last'] == 9 / 8 and row['of_base'] == 9 / 4
    assert row['of_bases'] == [9 / 4, 1]
    assert row['mean_ms'] == 4.5 and row['images_per_s'] == 4000 / 4.5


def test_dynamic_pass_meets_every_batch_before_it_is_timed():
    met = []

    def leave(batch):
        met.append(batch[0].item())
        return Prediction(None, torch.zeros(len(batch), dtype=torch.long),
                          None)

    entry = BenchmarkEntry('x', 'eager', [lambda batch: None], None, leave)
    row, = benchmark.compare([entry], torch.arange(6.), 2, runs=1, warmup=0)
    assert met == [0, 2, 4, 0]
    assert row['dynamic']['shares'] == [1]


def test_training_step_leaves_the_network_alone(net, images):
    entries = [
        static_entry('other', nn.Sequential(nn.Flatten())),
        early_exit_entry('ours', 'eager', net, (3, 32, 32))
    ]
    entries[0] = static_entry('other',
                              nn.Sequential(nn.Flatten(), nn.Linear(3072, 3)))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    other, ours = benchmark.compare_training(entries, images, 4, runs=2)
    assert other['of_base'] == other['memory_of_base'] == 1
    assert ours['memory_of_base'] > 1 and ours['median_ms'] > 0
    assert not net.training
    assert all(p.grad is None for p in net.parameters())
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_top1(net, images):
    with torch.no_grad():
        labels = net(images)[3].argmax(1)
    labels[:2] = (labels[:2] + 1) % 3
    never = ExitPolicy(4, (2, 2, 2))
    entry = early_exit_entry('ours', 'eager', net, (3, 32, 32), never)
    found = benchmark.top1_per_exit(entry, images, labels)
    assert len(found['exits']) == 4
    assert found['exits'][3] == found['dynamic'] == 75
    curve = found['curve']
    # From all images at the first exit to all at the last.
    for point, k in ((curve[0], 0), (curve[-1], 3)):
        assert point['shares'] == tuple(float(k == j) for j in range(4))
        assert point['top1'] == found['exits'][k]
    macs = [sum(s * m for s, m in zip(p['shares'], entry.macs)) for p in curve]
    assert macs == sorted(macs) and len(set(macs)) > 3


def test_peak_memory():
    """Two of three results live at once; views and weights do not count."""
    weight = torch.zeros(1000)

    def run(batch):
        first = batch + 1
        second = first.view(2, -1) * 2
        del first
        return (second.flatten() + weight.sum()).sum()

    batch = torch.zeros(2**18)
    peak = peak_memory(run, batch)
    assert peak == pytest.approx(2, abs=0.01)
