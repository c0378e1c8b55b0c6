# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Results as tables."""
import re
import sys
from typing import Any, Dict, List, Mapping, Optional, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..calibration.intervals import wilson_interval
from ..calibration.outcomes import Outcome
from ..calibration.risk_control import describe_certificate
from ..core import OperatingPoint
from ..core.accelerate.captured import GraphStatistics

# Average precisions that the table shows, and how.
PRECISIONS = {
    'bbox_mAP': 'box AP (%)',
    'bbox_mAP_50': 'AP50 (%)',
    'segm_mAP': 'mask AP (%)'
}
# The same of what operating points are chosen by and measured with.
MEASURES = dict(PRECISIONS, accuracy='top-1 (%)', utility='utility')

# For lines with names in them.
PLAIN = dict(markup=False, emoji=False)

# Fewer held-out images than this, or an interval of the accuracy that reaches
# further to both sides, are worth a warning.
FEW_IMAGES = 100
WIDE = 0.02

# Where names of configs are broken; they have about twice as many letters.
NAME_WIDTH = 24

__all__ = [
    'benchmark_table', 'exits_table', 'outcomes_table', 'print_benchmark',
    'print_exits', 'print_outcomes'
]


def exits_table(metrics: Mapping[str, float],
                thresholds: Optional[Sequence[float]] = None) -> Table:
    """Table of what an early-exit metric of any task found.

    The title tells the thresholds in use.
    """
    if thresholds is None:
        title = 'No thresholds: all run to the last exit'
    else:
        title = 'Thresholds: ' + ', '.join(f'{t:.4g}' for t in thresholds)
    measures = _measures(metrics)
    found = (re.match(r'exit(\d+)/', name) for name in metrics)
    exits = sorted({int(match[1]) for match in found if match})
    large = metrics.get('dynamic/macs', 0) >= 1e9
    scale, unit = (1e-9, 'G') if large else (1e-6, 'M')
    table = Table('exit', title=title)
    for heading in (*measures.values(), 'share (%)', f'MACs ({unit})'):
        table.add_column(heading, justify='right')

    def cell(name: str, scale: float = 1.) -> str:
        return f'{metrics[name] * scale:.2f}' if name in metrics else '-'

    for name in [*(f'exit{k}' for k in exits), 'dynamic']:
        share = '100.00' if name == 'dynamic' else cell(f'{name}/share', 100)
        table.add_row(
            name.removeprefix('exit'),
            # Average precisions are shares, accuracies percent.
            *(cell(f'{name}/{key}', 1 if key.startswith('top') else 100)
              for key in measures),
            share,
            cell(f'{name}/macs', scale),
            end_section=bool(exits) and name == f'exit{exits[-1]}')
    return table


def _measures(metrics: Mapping[str, float]) -> Dict[str, str]:
    """What was measured of the predictions: name -> heading."""
    headings = {}
    for name in metrics:
        start, _, key = name.partition('/')
        if start != 'dynamic' or key == 'macs':
            continue
        if key.startswith('top'):
            headings[key] = f'top-{key[3:]} (%)'
        elif key in PRECISIONS:
            headings[key] = PRECISIONS[key]
    return headings


def print_exits(metrics: Mapping[str, float],
                thresholds: Optional[Sequence[float]] = None) -> None:
    """Print the table, if there is anything to put into it."""
    if any(name.startswith('dynamic/') for name in metrics):
        Console().print(exits_table(metrics, thresholds))


def outcomes_table(title: str,
                   static: Sequence[Outcome],
                   found: Sequence[Mapping[str, Any]],
                   measure: str = 'accuracy',
                   number: int = 0) -> Table:
    """Table of operating points beside each static exit.

    Args:
        title (str): Which images these are.
        static (Sequence[Outcome]): Leaving always at each exit.
        found (Sequence[Mapping]): What each operating point brings, as
            :func:`describe_outcome` tells it.
        measure (str): What the utility is, one of ``MEASURES``. Defaults to
            'accuracy'.
        number (int): Of how many images, for the intervals of accuracies.
            Defaults to 0, without.
    """
    table = Table(title=title)
    for heading in ('exit', MEASURES[measure], 'MACs (M)', 'of the last',
                    'shares (%)'):
        table.add_column(
            heading, justify='left' if heading == 'exit' else 'right')

    def add(name: str, value: float, interval: Any, macs: float,
            shares: Sequence[float]) -> None:
        text = f'{value if measure == "utility" else 100 * value:.2f}'
        if interval is not None:
            text += f' ±{50 * (interval[1] - interval[0]):.1f}'
        table.add_row(name, text, f'{macs / 1e6:.2f}',
                      f'{macs / static[-1].cost:.0%}',
                      ' '.join(f'{100 * share:.1f}' for share in shares))

    for k, outcome in enumerate(static):
        interval = None
        if number and measure == 'accuracy':
            interval = wilson_interval(round(outcome.utility * number), number)
        add(f'always exit {k}', outcome.utility, interval, outcome.cost, ())
    table.add_section()
    for brought in found:
        add('leaving early', brought[measure],
            brought.get(f'{measure}_interval'), brought['macs'],
            brought['shares'])
    return table


def print_outcomes(points: Sequence[OperatingPoint],
                   tables: Sequence[Table],
                   number: int,
                   tested: bool = False) -> None:
    """Print tables, the thresholds of a single point, and what to doubt.

    What the points bring on so many held-out images is in ``expected``; they
    were perhaps tested on others.
    """
    console = Console()
    for table in tables:
        console.print(table)
    if len(points) == 1:
        thresholds = ', '.join(f'{t:.4g}' for t in points[0].thresholds)
        console.print(f'thresholds ({points[0].criterion}): {thresholds}')
        found = points[0].expected
        if 'latency_ms' in found:
            console.print(f'expected latency of an image: '
                          f'{found["latency_ms"]:.3f} ms')
        if 'shares_interval' in found:
            console.print('shares with intervals of 95 %: ' + ', '.join(
                f'{100 * share:.1f} ({100 * low:.1f} to {100 * high:.1f})'
                for share,
                (low, high) in zip(found['shares'], found['shares_interval'])))
        if points[0].certificate:
            console.print(describe_certificate(points[0].certificate))
    if not tested:
        console.print('The thresholds were chosen on these images, so that '
                      'others will bring a little less: --test measures it.')
    found = [point.expected for point in points]
    measure = 'utility' if 'utility' in found[0] else 'accuracy'
    intervals = [
        interval for brought in found
        for interval in brought.get('shares_interval', ())
        if measure == 'utility'
    ] or [brought.get('accuracy_interval') for brought in found]
    half = max([(high - low) / 2 for low, high in filter(None, intervals)],
               default=0.)
    if number < FEW_IMAGES or half > WIDE:
        console.print(f'warning: {number:,} held-out images are few, so that '
                      f'{measure} and shares are uncertain by {100 * half:.0f}'
                      f' points and more: hold out more images')


def benchmark_table(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """Table of what ``benchmark.compare`` found in one batch size."""
    # Names are not markup: they may have [brackets] and :colons:.
    table = Table(title=Text(title, 'table.title'))
    bases = len(rows[0]['exits'][0]['of_bases'])
    ratios = ['of base'] if bases == 1 else \
        [f'of base {number + 1}' for number in range(bases)]
    for number, heading in enumerate(
        ('network', 'mode', 'exit', 'median (ms)', 'p90', 'p99', *ratios,
         'images/s', 'MACs (M)', 'memory (MiB)')):
        table.add_column(
            heading,
            justify='left' if number < 3 else 'right',
            overflow='ellipsis' if number else 'fold',
            min_width=0 if number else NAME_WIDTH)
    for row in rows:
        names = Text(row['name']), Text(row['mode'])
        for found in row['exits']:
            macs, memory = found.get('macs'), row.get('peak_memory_mib')
            deepest = found is row['exits'][-1]
            table.add_row(
                *(('', '') if found['exit'] else names), str(found['exit']),
                *_times(found),
                f'{1000 * row["batch_size"] / found["median_ms"]:.1f}',
                '' if macs is None else f'{macs / 1e6:.1f}',
                f'{memory:.1f}' if deepest and memory is not None else '')
        found = row.get('dynamic')
        if found:
            table.add_row('', '', 'dynamic', *_times(found),
                          f'{found["images_per_s"]:.1f}')
        table.add_section()
    return table


def _times(found: Mapping[str, Any]) -> List[str]:
    """Milliseconds, and ratios to the bases."""
    keys = ('median_ms', 'p90_ms', 'p99_ms')
    return [f'{found[key]:.3f}'
            for key in keys] + [f'{ratio:.2f}' for ratio in found['of_bases']]


def print_benchmark(result: Mapping[str, Any]) -> None:
    """Print what ``tools/benchmark.py`` found, one table per batch size."""
    console = Console(width=None if sys.stdout.isatty() else 150)
    machine = result['machine']
    sizes = dict.fromkeys(row['batch_size'] for row in result['compared'])
    for size in sizes:
        rows = [r for r in result['compared'] if r['batch_size'] == size]
        console.print(
            benchmark_table(
                rows, f'batch {size}, {rows[0]["runs"]} runs, '
                f'{machine["threads"]} threads, {machine["device"]}'))
        for row in rows:
            found = row.get('dynamic')
            if found:
                shares = ' '.join(f'{100 * s:.0f}' for s in found['shares'])
                console.print(
                    f'{row["name"]}, {row["mode"]}, leaving early (shares '
                    f'{shares} %): mean {found["mean_ms"]:.3f} ms, '
                    f'{found["of_last"]:.2f} of the last exit, '
                    f'{found["of_ideal"]:.3f} of the ideal', **PLAIN)
            if 'graphs' in row:
                console.print(
                    f'{row["name"]}, {row["mode"]}, so far: '
                    f'{GraphStatistics(**row["graphs"])}', **PLAIN)
    for number, name in enumerate(result['bases'], 1):
        which = f' {number}' if len(result['bases']) > 1 else ''
        console.out(f'base{which}: {name}', highlight=False)
    for step in result['training']:
        console.print(
            f'{step["name"]}, training step of {step["batch_size"]}: median '
            f'{step["median_ms"]:.1f} ms ({step["of_base"]:.2f} of base), '
            f'{step["peak_memory_mib"]:.0f} MiB '
            f'({step["memory_of_base"]:.2f} of base)', **PLAIN)
    for row in result.get('files', ()):
        found, count = row['images_per_s'], row['threads']
        console.print(
            f'{row["name"]}, {row["mode"]}, from {row["num_files"]} files: '
            f'{found["threads"]:.1f} images/s with {count} threads, '
            f'{found["streams"]:.1f} in {count} streams '
            f'({row["of_threads"]:.2f} of it)', **PLAIN)
