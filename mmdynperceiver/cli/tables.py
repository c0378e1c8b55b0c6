# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Results as tables."""
import re
import sys
from typing import Any, Dict, List, Mapping, Optional, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..calibration.intervals import wilson_interval
from ..core import OperatingPoint
from ..hosts.exit_logits import ExitLogits

# Average precisions that the table shows, and how.
PRECISIONS = {
    'bbox_mAP': 'box AP (%)',
    'bbox_mAP_50': 'AP50 (%)',
    'segm_mAP': 'mask AP (%)'
}

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

    Args:
        metrics (Mapping[str, float]): Its names and values.
        thresholds (Sequence[float], optional): Those in use, for the title.
            Defaults to None.
    """
    if thresholds is None:
        title = 'No thresholds: all run to the last exit'
    else:
        title = 'Thresholds: ' + ', '.join(f'{t:.4g}' for t in thresholds)
    measures = _measures(metrics)
    exits = sorted({
        int(match.group(1))
        for match in (re.match(r'exit(\d+)/', name) for name in metrics)
        if match
    })
    table = Table(title=title)
    table.add_column('exit')
    scale, unit = (1e-9,
                   'G') if metrics.get('dynamic/macs', 0) >= 1e9 else (1e-6,
                                                                       'M')
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


def outcomes_table(points: Sequence[OperatingPoint],
                   held_out: ExitLogits,
                   test: Optional[ExitLogits] = None) -> Table:
    """Table of operating points beside each static exit.

    Args:
        points (Sequence[OperatingPoint]): What they bring on the held-out
            images is in ``expected``, and on the test images in its
            ``test``.
        held_out (ExitLogits): The held-out images.
        test (ExitLogits, optional): The test images. Defaults to None.
    """
    table = Table()
    for heading in ('images', 'exit', 'top-1 (%)', 'MACs (M)', 'shares (%)'):
        table.add_column(
            heading,
            justify='left' if heading in ('images', 'exit') else 'right')
    found = [point.expected for point in points]
    _add_rows(table, 'held-out', held_out, found)
    if test is not None:
        table.add_section()
        _add_rows(table, 'test', test, [outcome['test'] for outcome in found])
    return table


def _add_rows(table: Table, kind: str, exits: ExitLogits,
              outcomes: Sequence[Mapping[str, Any]]) -> None:
    """Add a row for each exit and each operating point."""
    title = f'{len(exits.labels):,} {kind}'
    for k, logits in enumerate(exits.logits):
        right = int((logits.argmax(1) == exits.labels).sum())
        number = len(exits.labels)
        table.add_row('' if k else title, f'always {k}',
                      _percent(right / number, wilson_interval(right, number)),
                      f'{exits.macs[k] / 1e6:.2f}', '')
    for outcome in outcomes:
        shares = ' '.join(f'{100 * s:.1f}' for s in outcome['shares'])
        table.add_row(
            '', 'leaving early',
            _percent(outcome['accuracy'], outcome.get('accuracy_interval')),
            f'{outcome["macs"] / 1e6:.2f}', shares)


def _percent(share: float, interval: Optional[Sequence[float]]) -> str:
    """A share in percent, and half the width of its interval."""
    if interval is None:
        return f'{100 * share:.2f}'
    return f'{100 * share:.2f} ±{50 * (interval[1] - interval[0]):.1f}'


def print_outcomes(points: Sequence[OperatingPoint],
                   held_out: ExitLogits,
                   test: Optional[ExitLogits] = None) -> None:
    """Print the table, and the thresholds of a single point."""
    console = Console()
    console.print(outcomes_table(points, held_out, test))
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
    for note in _doubts(points, held_out, test):
        console.print(note)


def _doubts(points: Sequence[OperatingPoint], held_out: ExitLogits,
            test: Optional[ExitLogits]) -> List[str]:
    """How far the numbers of a table may be trusted."""
    notes = []
    if test is None:
        notes.append('The thresholds were chosen on these images, so that '
                     'others will bring a little less: --test measures it.')
    number = len(held_out.labels)
    intervals = [point.expected.get('accuracy_interval') for point in points]
    half = max([(high - low) / 2 for low, high in filter(None, intervals)],
               default=0.)
    if number < FEW_IMAGES or half > WIDE:
        notes.append(f'warning: {number:,} held-out images are few, so that '
                     f'accuracy and shares are uncertain by '
                     f'{100 * half:.0f} points and more: hold out more '
                     f'images')
    return notes


def benchmark_table(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """Table of networks timed side by side in one batch size.

    Args:
        rows (Sequence[Mapping[str, Any]]): As ``benchmark.compare`` returns.
        title (str): What they share.
    """
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
        *_, last = row['exits']
        size = row['batch_size']
        memory = row.get('peak_memory_mib')
        for found in row['exits']:
            deepest = found is last
            macs = found.get('macs')
            table.add_row(
                *((Text(row['name']),
                   Text(row['mode'])) if not found['exit'] else ('', '')),
                str(found['exit']), f'{found["median_ms"]:.3f}',
                f'{found["p90_ms"]:.3f}', f'{found["p99_ms"]:.3f}',
                *(f'{ratio:.2f}' for ratio in found['of_bases']),
                f'{1000 * size / found["median_ms"]:.1f}',
                '' if macs is None else f'{macs / 1e6:.1f}',
                f'{memory:.1f}' if deepest and memory is not None else '')
        found = row.get('dynamic')
        if found:
            table.add_row('', '', 'dynamic', f'{found["median_ms"]:.3f}',
                          f'{found["p90_ms"]:.3f}', f'{found["p99_ms"]:.3f}',
                          *(f'{ratio:.2f}' for ratio in found['of_bases']),
                          f'{found["images_per_s"]:.1f}', '', '')
        table.add_section()
    return table


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
    for number, name in enumerate(result['bases'], 1):
        which = f' {number}' if len(result['bases']) > 1 else ''
        console.out(f'base{which}: {name}', highlight=False)
    for step in result['training']:
        console.print(
            f'{step["name"]}, training step of {step["batch_size"]}: median '
            f'{step["median_ms"]:.1f} ms ({step["of_base"]:.2f} of base), '
            f'{step["peak_memory_mib"]:.0f} MiB '
            f'({step["memory_of_base"]:.2f} of base)', **PLAIN)
