# Copyright (c) mmdynperceiver contributors. All rights reserved.
import pytest

from mmdynperceiver.calibration.outcomes import Outcome
from mmdynperceiver.cli.tables import (benchmark_table, exits_table,
                                       outcomes_table, print_benchmark,
                                       print_exits, print_outcomes)
from mmdynperceiver.core import OperatingPoint

METRICS = {
    'exit0/top1': 50.,
    'exit0/top5': 75.5,
    'exit0/share': 0.25,
    'exit0/macs': 1.5e6,
    'exit1/top1': 60.,
    'exit1/top5': 80.,
    'exit1/share': 0.75,
    'exit1/macs': 3e6,
    'dynamic/top1': 58.,
    'dynamic/top5': 79.,
    'dynamic/macs': 2.625e6,
    'time': 0.1
}


def cells(table):
    return list(zip(*(list(column.cells) for column in table.columns)))


def test_rows():
    table = exits_table(METRICS, (0.7, ))
    assert cells(table) == [
        ('0', '50.00', '75.50', '25.00', '1.50'),
        ('1', '60.00', '80.00', '75.00', '3.00'),
        ('dynamic', '58.00', '79.00', '100.00', '2.62'),
    ]
    assert [c.header for c in table.columns][1:3] == ['top-1 (%)', 'top-5 (%)']
    assert '0.7' in table.title


def test_what_is_not_known_is_a_dash():
    stopped = {
        name: value
        for name, value in METRICS.items()
        if name.startswith('dynamic') or name.endswith('share')
    }
    assert cells(exits_table(stopped))[0] == ('0', '-', '-', '25.00', '-')


def test_prints_only_what_there_is(capsys):
    print_exits({'accuracy/top1': 3.})
    assert capsys.readouterr().out == ''
    print_exits(METRICS)
    assert 'dynamic' in capsys.readouterr().out


STATIC = [Outcome(0.5, (1., 0.), 1e6), Outcome(0.5, (0., 1.), 2e6)]


def test_operating_points(capsys):
    brought = dict(accuracy=0.25, shares=[0.5, 0.5], macs=1.5e6)
    point = OperatingPoint((0.7, ), expected=dict(brought, latency_ms=1.25))
    table = outcomes_table('held-out', STATIC, [point.expected], number=2)
    assert cells(table) == [
        # Wilson's interval of 1 of 2 is 0.0945 to 0.9055.
        ('always exit 0', '50.00 ±40.5', '1.00', '50%', ''),
        ('always exit 1', '50.00 ±40.5', '2.00', '100%', ''),
        ('leaving early', '25.00', '1.50', '75%', '50.0 50.0'),
    ]
    print_outcomes([point], [table], 2)
    output = capsys.readouterr().out
    assert 'thresholds (max_prob): 0.7' in output and '1.250 ms' in output
    assert '2 held-out images are few' in output and '--test' in output


@pytest.mark.parametrize('measure, heading, value', [
    ('utility', 'utility', '-0.25'),
    ('bbox_mAP', 'box AP (%)', '-25.00'),
])
def test_operating_points_of_a_detector(capsys, measure, heading, value):
    found = dict(shares=[0.5, 0.5], macs=1.5e6)
    found[measure] = -0.25
    table = outcomes_table('held-out', STATIC, [found], measure, 2)
    assert table.columns[1].header == heading
    assert cells(table)[-1][1] == value and '±' not in cells(table)[0][1]
    found = dict(found, utility=-0.25, shares_interval=[[0.2, 0.5]] * 2)
    print_outcomes([OperatingPoint((0.7, ), expected=found)], [table], 2, True)
    output = ' '.join(capsys.readouterr().out.split())
    assert 'utility and shares are uncertain by 15 points' in output


def test_how_far_to_trust_the_numbers(capsys):
    brought = dict(
        accuracy=0.9,
        accuracy_interval=[0.88, 0.91],
        shares=[0.5, 0.5],
        shares_interval=[[0.48, 0.52]] * 2,
        macs=1.5e6)
    point = OperatingPoint((0.7, ), expected=brought)
    table = outcomes_table('held-out', STATIC, [brought], number=2000)
    print_outcomes([point], [table], 2000)
    output = capsys.readouterr().out
    assert '90.00 ±1.5' in output and '50.0 (48.0 to 52.0)' in output
    assert 'few' not in output
    # Enough images, and still a wide interval.
    brought['accuracy_interval'] = [0.85, 0.93]
    print_outcomes([point], [table], 2000, True)
    output = ' '.join(capsys.readouterr().out.split())
    assert '2,000 held-out images are few' in output
    assert 'uncertain by 4 points' in output and '--test' not in output


TIMES = dict(median_ms=2., p90_ms=3., p99_ms=4.)


def benchmark_row(name, mode, batch_size, static, leaving):
    """Of a network of one exit: ratios to each base, all at it and leaving."""
    return dict(
        name=name,
        mode=mode,
        batch_size=batch_size,
        runs=3,
        exits=[dict(TIMES, exit=0, of_base=static[0], of_bases=static)],
        dynamic=dict(
            TIMES,
            mean_ms=2.,
            images_per_s=500 * batch_size,
            of_last=1,
            of_ideal=1,
            shares=[1.],
            of_base=leaving[0],
            of_bases=leaving))


def test_each_base_has_a_column(capsys):
    row = benchmark_row('ours', 'openvino', 4, [0.5, 0.25], [0.5, 0.125])
    table = benchmark_table([row], '')
    assert [c.header for c in table.columns][6:8] == ['of base 1', 'of base 2']
    static, leaving = cells(table)
    assert [str(cell) for cell in static[:3]] == ['ours', 'openvino', '0']
    assert static[6:] == ('0.50', '0.25', '2000.0', '', '')
    assert leaving[6:9] == ('0.50', '0.12', '2000.0')
    result = dict(
        compared=[row],
        bases=['a, eager', 'b, openvino'],
        machine=dict(threads=1, device='abacus'),
        training=[])
    print_benchmark(result)
    output = capsys.readouterr().out
    assert 'base 1: a, eager\nbase 2: b, openvino\n' in output
    for found in row['exits'] + [row['dynamic']]:
        del found['of_bases'][1]
    assert [c.header for c in benchmark_table([row], '').columns
            ][5:8] == ['p99', 'of base', 'images/s']
    row['graphs'] = dict(graphs=4, kinds=1, batches=9, misses={'cold': 2})
    print_benchmark(dict(result, bases=['a, eager']))
    output = capsys.readouterr().out
    assert '\nbase: a, eager\n' in output
    assert '9 batches ran by them, 2 without (2 cold)' in output


def test_names_are_not_markup(capsys):
    """Nor does one end in a traceback, or become a picture of a car."""
    row = benchmark_row('a[b][/c]:car:', 'eager', 1, [1.], [1.])
    step = dict(
        name='a[b][/c]:car:',
        batch_size=1,
        median_ms=1.,
        of_base=1.,
        peak_memory_mib=1.,
        memory_of_base=1.)
    print_benchmark(
        dict(
            compared=[row],
            bases=['a[b][/c]:car:'],
            machine=dict(threads=1, device='cpu [0]'),
            training=[step]))
    output = capsys.readouterr().out
    assert output.count('a[b][/c]:car:') == 4 and 'cpu [0]' in output
