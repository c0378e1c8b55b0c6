# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Results as tables."""
import re
from typing import Mapping, Optional, Sequence

from rich.console import Console
from rich.table import Table

__all__ = ['exits_table', 'print_exits']


def exits_table(metrics: Mapping[str, float],
                thresholds: Optional[Sequence[float]] = None) -> Table:
    """Table of what :class:`EarlyExitMetric` found.

    Args:
        metrics (Mapping[str, float]): Its names and values.
        thresholds (Sequence[float], optional): Those in use, for the title.
            Defaults to None.
    """
    if thresholds is None:
        title = 'No thresholds: all run to the last exit'
    else:
        title = 'Thresholds: ' + ', '.join(f'{t:.4g}' for t in thresholds)
    topk = sorted(
        {name.rpartition('/top')[2]
         for name in metrics if '/top' in name},
        key=int)
    exits = sorted({
        int(match.group(1))
        for match in (re.match(r'exit(\d+)/', name) for name in metrics)
        if match
    })
    table = Table(title=title)
    table.add_column('exit')
    for heading in (*(f'top-{k} (%)' for k in topk), 'share (%)', 'MACs (M)'):
        table.add_column(heading, justify='right')

    def cell(name: str, scale: float = 1.) -> str:
        return f'{metrics[name] * scale:.2f}' if name in metrics else '-'

    for name in [*(f'exit{k}' for k in exits), 'dynamic']:
        share = '100.00' if name == 'dynamic' else cell(f'{name}/share', 100)
        table.add_row(
            name.removeprefix('exit'),
            *(cell(f'{name}/top{k}') for k in topk),
            share,
            cell(f'{name}/macs', 1e-6),
            end_section=bool(exits) and name == f'exit{exits[-1]}')
    return table


def print_exits(metrics: Mapping[str, float],
                thresholds: Optional[Sequence[float]] = None) -> None:
    """Print the table, if there is anything to put into it."""
    if any(name.startswith('dynamic/') for name in metrics):
        Console().print(exits_table(metrics, thresholds))
