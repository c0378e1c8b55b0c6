# Copyright (c) mmdynperceiver contributors. All rights reserved.
import numpy as np
import pytest
from matplotlib.colors import to_hex

from mmdynperceiver.report import plot_accuracy_latency
from .helpers import colour_at, labels_of


def network(name, top1, mode='eager', **kwargs):
    """A row of the benchmark: exit k takes 8 (k + 1) ms for 4 images."""
    exits = [
        dict(exit=k, median_ms=8. * (k + 1), macs=1e8 * (k + 1))
        for k in range(len(top1))
    ]
    return dict(
        name=name,
        mode=mode,
        batch_size=4,
        exits=exits,
        top1=dict(exits=list(top1)),
        **kwargs)


@pytest.fixture
def rows():
    """Two networks with accuracies, one without."""
    ours = network('ours', (70, 80), dynamic=dict(mean_ms=10.))
    ours['top1'].update(
        dynamic=78,
        curve=[
            dict(shares=(1, 0), top1=70),
            dict(shares=(.5, .5), top1=78),
            dict(shares=(0, 1), top1=80)
        ])
    other = network('other', (1, 2))
    del other['top1']
    return [ours, network('static', (75, )), other]


def lines_of(axes):
    """What is drawn: its points, its colour and whether it is thick."""
    return [(np.round(line.get_xydata(), 6).tolist(), to_hex(line.get_color()),
             line.get_linewidth() > 1, line.get_marker())
            for line in axes.lines]


def test_draws_exits_curve_and_thresholds(rows):
    axes, = plot_accuracy_latency(rows).axes
    exits, star, early, static = lines_of(axes)
    assert exits[0] == [[2, 70], [4, 80]] and exits[3] == 'o'
    # Half of the images take 2 ms and half take 4.
    assert early[0] == [[2, 70], [3, 78], [4, 80]] and early[2]
    assert star[0] == [[2.5, 78]] and star[3] == '*'
    assert static[0] == [[2, 75]]
    # One colour for each network.
    assert exits[1] == star[1] == early[1] != static[1]
    assert axes.figure.legends == [] and axes.get_legend() is None
    assert set(
        labels_of(axes)) == {'ours', '0', '1', 'leaving early', 'static'}
    assert axes.get_title().startswith('batch 4, eager\n')
    assert axes.get_xlim()[1] > 4


def test_modes_share_the_colour_of_their_network():
    rows = [
        network(f'{name}_net_8xb1_data', (60 + k, 70 + k), mode)
        for k, name in enumerate(('ours', 'multi-exit'))
        for mode in ('eager', 'prepared', 'openvino')
    ]
    axes, = plot_accuracy_latency(rows).axes
    colours = [line[1] for line in lines_of(axes)]
    assert len(set(colours[:3])) == len(set(colours[3:])) == 1
    assert colours[0] != colours[3]
    assert len({line.get_linestyle() for line in axes.lines}) == 3
    # What all names have in common stands in the title.
    assert axes.get_title().startswith('net, batch 4\n')
    assert {'ours, eager', 'multi-exit, openvino'} <= set(labels_of(axes))


def test_many_networks_have_as_many_colours():
    rows = [network(f'torchvision:net{k}', (60 + k, )) for k in range(11)]
    axes, = plot_accuracy_latency(rows).axes
    assert len({line[1] for line in lines_of(axes)}) == 11
    assert set(labels_of(axes)) == {f'net{k}' for k in range(11)}


def test_one_graph_has_a_name_of_its_own():
    rows = [
        network('ours_net_8xb1_data', (70, 80), 'openvino'),
        network('ours_net_8xb1_data (one graph)', (80, ), 'openvino')
    ]
    axes, = plot_accuracy_latency(rows).axes
    assert {'ours', 'ours (one graph)'} <= set(labels_of(axes))


def test_published_curve_of_leaving_early():
    name = 'dyn-perceiver_regnety-{}mf_8xb128_in1k'
    small = network(name.format(400), (60, 75, 77.8))
    large = network(name.format(800), (68, 78, 79.8))
    for row, macs in ((small, (3e8, 5e8, 6e8)), (large, (4e8, 9e8, 13e8))):
        for found, value in zip(row['exits'], macs):
            found['macs'] = value
    axes, = plot_accuracy_latency([small, large]).axes
    first, second = [line for line in lines_of(axes) if line[2]]
    # The paper's points at 0.35, 0.38, 0.42 and 0.45 GMACs; those at 0.5 and
    # 0.55 are better than the exits of the small network.
    macs, top1 = [.35e9, .38e9, .42e9, .45e9], [72., 74.5, 76.4, 77.2]
    ms = np.interp(macs, (3e8, 5e8, 6e8), (2, 4, 6))
    assert first[0] == np.round(np.column_stack([ms, top1]), 6).tolist()
    # From the small network's last exit on they are those of the large one.
    assert second[0][0][1] == 78.5 and second[0][-1][1] == 79.8
    assert 'as published' in axes.get_title()


def test_a_curve_of_macs_is_estimated():
    row = network('ours', (70, 80))
    row['top1']['curve'] = [dict(macs=1e8, top1=70), dict(macs=1.5e8, top1=78)]
    axes, = plot_accuracy_latency([row]).axes
    early, = [line for line in lines_of(axes) if line[2]]
    assert early[0] == [[2, 70], [3, 78]]
    assert axes.get_title().endswith('latency estimated from MACs')


def test_no_published_curve_of_other_networks():
    rows = [
        network('static_regnety-400mf_8xb128_in1k', (75, )),
        network('dyn-perceiver_resnet22-w025_1xb128_cifar10', (60, 70)),
        network('multi-exit_regnety-400mf_8xb128_in1k', (60, 70))
    ]
    axes, = plot_accuracy_latency(rows).axes
    assert not any(line[2] for line in lines_of(axes))
    assert 'published' not in axes.get_title()


def test_writes(rows, tmp_path):
    axes, = plot_accuracy_latency(rows, tmp_path / 'x.png').axes
    exits = lines_of(axes)[0]
    assert colour_at(tmp_path / 'x.png', axes, *exits[0][1]) == exits[1]


def test_refuses_nothing_to_draw(rows, tmp_path):
    with pytest.raises(ValueError, match='at least one curve'):
        plot_accuracy_latency(rows[2:], tmp_path / 'x.png')
    assert not list(tmp_path.iterdir())
