# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The report's page: which picture and which table says what."""
import math
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

from ..core.files import write_text
from ..version import __version__
from .contents import Contents
from .draw import NAMES
from .page import build_page, figure_html, paragraph, section, table_html
from .sweep import select

__all__ = ['write_page']


def write_page(path: Path, contents: Contents, pictures: Dict[str,
                                                              str]) -> None:
    """Write the page.

    Args:
        path (Path): The file; the pictures lie beside it.
        contents (Contents): All numbers.
        pictures (dict[str, str]): What :func:`draw_all` returns.
    """
    folder = path.parent
    parts: List[Tuple[str, str, List[str]]] = []

    def picture(name: str, alt: str, caption: str) -> List[str]:
        if name not in pictures:
            return []
        wide = name in ('reliability', 'gallery', 'activation_maps')
        return [figure_html(folder / pictures[name], alt, caption, wide)]

    shown = contents.shown
    curve = [
        *picture(
            'accuracy_macs', f'Accuracy against mean MACs on {shown} images',
            'Each point of a line is one setting of the thresholds, solved '
            'on the held-out images; a searched line ends where more MACs '
            'no longer help there. Leaving at random shows what the '
            'confidence is worth.'),
        *picture('accuracy_latency',
                 f'Accuracy against mean latency on {shown} images',
                 'The same settings by the measured latency of each exit.'),
        _areas(contents)
    ]
    parts.append(('curve', 'Accuracy against cost', curve))
    if contents.points:
        parts.append(('points', 'Operating points', [_points(contents)]))
    parts.append(('exits', 'The exits', [_exits(contents)]))
    parts.append(('shares', 'Where images leave',
                  picture('shares', 'Share of images per exit against budget',
                          'Searched thresholds, budget by budget.')))
    parts.append(
        ('reliability', 'Can the confidence be trusted?',
         picture(
             'reliability', 'Accuracy against confidence of each exit',
             f'Criterion: {_criterion(contents)}. Bars below the dashed line:'
             f' surer than right. Below: how many images are that sure.')))
    parts.append(('criteria', 'Which criterion?', _criteria(contents)))
    parts.append(('gallery', 'Easy and hard images',
                  picture(
                      'gallery', 'Images that left at each exit',
                      'Green: right. Red: the true class, then the wrong one '
                      'that it got. The percentage is the confidence.')))
    parts.append(('maps', 'Where the exits look',
                  picture(
                      'activation_maps',
                      'Class-activation maps of each exit on chosen images',
                      'Bright: speaks for the class that the exit predicts '
                      '(HiResCAM; dark all over: nothing does). Exits '
                      'that classify latents: the features '
                      'that the latents read last. Deep maps of small images '
                      'have few places.')))
    parts = [part for part in parts if part[2]]
    write_text(
        path,
        build_page(
            f'Leaving early: {contents.model_name}', _lead(contents),
            [part[:2] for part in parts], [section(*part) for part in parts],
            f'Written by mmdynperceiver {__version__}. All numbers: '
            f'curve.csv and curve.json beside this page.'))


def _criterion(contents: Contents) -> str:
    """The criterion and its temperatures in words."""
    if contents.temperature is None:
        return contents.criterion
    values = ', '.join(f'{value:.2f}' for value in contents.temperature)
    return f'{contents.criterion} with temperatures {values}'


def _lead(contents: Contents) -> str:
    """What the page is about, in numbers."""
    sizes = ' and '.join(f'{size:,} {name}'
                         for name, size in contents.sizes.items())
    text = (f'{sizes} images; {len(contents.macs)} exits; an image leaves '
            f'where its confidence ({_criterion(contents)}) reaches the '
            f'threshold.')
    last = select(contents.rows, 'exit', contents.shown)[-1]
    for point in contents.points:
        if point.data == contents.shown:
            return (f'{text} Operating point: {point.accuracy:.2%} at '
                    f'{_macs(point.macs)} MACs, {point.macs / last.macs:.0%} '
                    f'of the last exit, which reaches {last.accuracy:.2%} '
                    f'({contents.shown} images).')
    return text


def _macs(value: float) -> str:
    """MACs with a unit."""
    return f'{value / 1e9:.3f} G' if value >= 1e9 else f'{value / 1e6:.3f} M'


def _areas(contents: Contents) -> str:
    """Both solvers on both data sets."""
    areas = contents.areas()
    names = list(contents.sizes)
    rows = [[
        NAMES[series], *(f'{100 * areas[series][name]:.2f}' for name in names)
    ] for series in areas]
    caption = 'Area under each curve'
    note = paragraph(
        'Mean accuracy (%) over the range of MACs, from the first exit to '
        'the last: the area under the curve. Thresholds are solved on the '
        'held-out images; the distance to the other column is over-fitting '
        'and chance.' if len(names) > 1 else
        'Mean accuracy (%) over the range of MACs, from the first exit to '
        'the last. Thresholds are solved on the same images, so this is '
        'optimistic.')
    return note + table_html(caption, ['policy', *names], rows)


def _points(contents: Contents) -> str:
    """The operating points on each data set."""
    timed = contents.latency_ms is not None
    columns = [
        'solved for', 'images', 'top-1 (%)', 'MACs',
        *(['ms'] if timed else []), *(f'exit {k} (%)'
                                      for k in range(len(contents.macs))),
        'criterion', 'thresholds'
    ]
    rows = [[
        point.name, point.data, f'{100 * point.accuracy:.2f}',
        _macs(point.macs), *([f'{point.latency_ms:.3f}'] if timed else []),
        *(f'{100 * share:.1f}' for share in point.shares), point.criterion,
        ', '.join(f'{value:.4f}' for value in point.thresholds)
    ] for point in contents.points]
    return table_html('Operating points', columns, rows)


def _exits(contents: Contents) -> str:
    """Accuracy and cost of each exit."""
    timed = contents.latency_ms is not None
    names = list(contents.sizes)
    found = {name: select(contents.rows, 'exit', name) for name in names}
    rows = []
    for k, value in enumerate(contents.macs):
        rows.append([
            f'exit {k}',
            _macs(value), f'{value / contents.macs[-1]:.0%}',
            *([f'{contents.latency_ms[k]:.3f}']
              if contents.latency_ms is not None else []),
            *(f'{100 * found[name][k].accuracy:.2f}'
              for name in names), f'{100 * contents.ece[k]:.2f}',
            _percent(contents.auroc[k])
        ])
    columns = [
        'exit', 'MACs', 'of the last', *(['ms'] if timed else []),
        *(f'top-1, {name} (%)' for name in names), 'ECE (%)',
        'failure AUROC (%)'
    ]
    return table_html('Accuracy and cost of each exit', columns, rows)


def _percent(value: float) -> str:
    """A share in percent, or a dash if it is not known."""
    return '–' if math.isnan(value) else f'{100 * value:.1f}'


def _criteria(contents: Contents) -> List[str]:
    """The table that compares the criteria."""
    exits = range(len(contents.macs))
    rows = [[
        row.criterion + (' + temperature' if row.temperature else ''),
        f'{100 * row.area:.2f}', *(f'{100 * row.ece[k]:.2f}'
                                   for k in exits), *(_percent(row.auroc[k])
                                                      for k in exits)
    ] for row in contents.criteria]
    columns = [
        'criterion', 'area (%)', *(f'ECE {k} (%)' for k in exits),
        *(f'AUROC {k} (%)' for k in exits)
    ]
    best = [
        cell for j in range(1, len(columns))
        for cell in _best(rows, j, smallest=1 < j < 2 + len(exits))
    ]
    return [
        paragraph(
            f'Area: mean accuracy of searched thresholds over the range of '
            f'MACs. ECE: mean distance of confidence and accuracy (entropy, '
            f'margin and patience are no probabilities, so theirs only '
            f'orders). AUROC: how well the confidence tells right from wrong '
            f'answers. Temperatures and thresholds are fitted on the '
            f'held-out images, the numbers are of the {contents.shown} '
            f'images. Coloured: best of a column.'),
        table_html('Comparison of the criteria', columns, rows, best)
    ]


def _best(rows: Sequence[Sequence[str]], column: int,
          smallest: bool) -> List[Tuple[int, int]]:
    """The cells with the best number of a column, as it is written."""
    sign = -1 if smallest else 1
    numbers = [
        sign * float(row[column]) if row[column] != '–' else -math.inf
        for row in rows
    ]
    top = max(numbers)
    return [(i, column) for i, number in enumerate(numbers)
            if number == top > -math.inf]
