# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The report's page: which picture and which table says what."""
import math
from pathlib import Path
from typing import Callable, List, Sequence, Tuple

from ..core.files import write_text
from ..version import __version__
from .contents import Contents
from .draw import LEAST_PLACES, NAMES, Pictures
from .gallery import mapped_exits, overlay
from .headline import KeyFigure
from .page import (Cell, build_page, cells_html, figures_html, paragraph,
                   plot_html, section, table_html)
from .sweep import select

__all__ = ['write_page']

# An anchor, a title, and HTML.
Part = Tuple[str, str, List[str]]


def write_page(path: Path, contents: Contents, pictures: Pictures) -> None:
    """Write the page.

    Args:
        path (Path): The file; the pictures lie beside it.
        contents (Contents): All numbers.
        pictures (Pictures): What :func:`draw_all` returns.
    """

    def plot(name: str, alt: str, caption: str) -> List[str]:
        if name not in pictures.plots:
            return []
        return [plot_html(path.parent, name, alt, caption)]

    parts = [('points',
              'Thresholds', [_thresholds(contents),
                             _points(contents)]), *_plots(contents, plot),
             ('criteria', 'Which criterion?', _criteria(contents)),
             ('gallery', f'Easy and hard {contents.unit}s',
              _gallery(contents, pictures)),
             ('maps', 'Where the exits look', _maps(contents, pictures))]
    parts = [part for part in parts if part[2]]
    write_text(
        path,
        build_page(
            f'Leaving early: {contents.model_name}', _lead(contents),
            [part[:2] for part in parts], [section(*part) for part in parts],
            f'Written by mmdynperceiver {__version__}. All numbers: '
            f'curve.csv and curve.json beside this page.'))


def _plots(contents: Contents, plot: Callable[[str, str, str],
                                              List[str]]) -> List[Part]:
    """The sections of the plots."""
    shown, unit = contents.shown, contents.unit
    size = f'{contents.sizes[shown]:,}'
    curve = [
        *plot(
            'accuracy_macs', f'Accuracy against mean MACs on {shown} {unit}s',
            f'Each point of a line is one setting of the thresholds, solved '
            f'on the held-out {unit}s. Band and bars: 95 % intervals of '
            f'{size} {unit}s. Lines end at the last exit; a searched one goes '
            f'there straight from where more MACs help no longer. Leaving at '
            f'random shows what the confidence is worth.'),
        *plot('accuracy_latency',
              f'Accuracy against mean latency on {shown} {unit}s',
              'The same settings by the measured latency of each exit.'),
        _areas(contents)
    ]
    return [('curve', 'Accuracy against cost', curve),
            ('exits', 'The exits', [_exits(contents)]),
            ('shares', f'Where {unit}s leave',
             plot(
                 'shares', f'Share of {unit}s per exit against mean MACs',
                 'Along the curve of searched thresholds, from the first '
                 'exit to the last.')),
            ('reliability', 'Can the confidence be trusted?',
             plot(
                 'reliability', 'Accuracy against confidence of each exit',
                 f'Criterion: {_criterion(contents)}. Bars below the dashed '
                 f'line: surer than right. Below: how many {unit}s are that '
                 f'sure.'))]


def _criterion(contents: Contents) -> str:
    """The criterion and its temperatures in words."""
    if contents.temperature is None:
        return contents.criterion
    values = ', '.join(f'{value:.2f}' for value in contents.temperature)
    return f'{contents.criterion} with temperatures {values}'


def _lead(contents: Contents) -> str:
    """What the page is about: four figures, and the thresholds."""
    sizes = ' and '.join(f'{size:,} {name}'
                         for name, size in contents.sizes.items())
    unit, point = contents.unit, contents.leading
    article = 'an' if unit[0] in 'aeio' else 'a'
    about = (f'{sizes} {unit}s; {len(contents.macs)} exits; {article} {unit} '
             f'leaves where its confidence ({_criterion(contents)}) reaches '
             f'the threshold. The figures: {point.name}, on '
             f'{contents.sizes[contents.shown]:,} {contents.shown} {unit}s, '
             f'beside the last exit; in brackets 95 % intervals.')
    return paragraph(about, 'lead') + figures_html(
        [_key_figure(figure, unit) for figure in contents.headline])


def _key_figure(figure: KeyFigure, unit: str) -> Tuple[str, ...]:
    """Name, value, and how it stands beside the last exit."""
    low, high = figure.interval
    if figure.name == 'accuracy':
        ends = ' to '.join(f'{100 * end:+.1f}'
                           for end in figure.difference_interval)
        return ('Accuracy', f'{figure.value:.2%}',
                f'[{100 * low:.1f} to {100 * high:.1f}]',
                f'{100 * figure.difference:+.2f} points [{ends}] against the '
                f'last exit, {figure.last:.2%}')
    if figure.name == 'early_exits':
        return ('Early exits', f'{figure.value:.1%}',
                f'[{100 * low:.1f} to {100 * high:.1f}]',
                f'of the {unit}s leave before the last exit; '
                f'{1 - figure.value:.1%} run to it')
    name, write = ('MACs', _macs) if figure.name == 'macs' else (
        'Milliseconds', lambda value: f'{value:.3g}')
    low, high = (end / figure.last for end in figure.interval)
    return (f'{name}, mean of one {unit}', write(figure.value),
            f'{figure.value / figure.last:.0%} [{100 * low:.1f} to '
            f'{100 * high:.1f}] of the last exit, {write(figure.last)}')


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
        f'held-out {contents.unit}s; the distance to the other column is '
        'over-fitting and chance.' if len(names) > 1 else
        'Mean accuracy (%) over the range of MACs, from the first exit to '
        f'the last. Thresholds are solved on the same {contents.unit}s, so '
        'this is optimistic.')
    return note + table_html(caption, ['policy', *names], rows)


def _thresholds(contents: Contents) -> str:
    """The thresholds of each operating point."""
    points = [p for p in contents.points if p.data == contents.shown]
    rows = [[
        f'{point.name}, {point.criterion}', *(f'{value:.6g}'
                                              for value in point.thresholds)
    ] for point in points]
    return '<div class="thresholds">' + table_html(
        'Thresholds', ['solved for', *_exit_names(len(contents.macs) - 1)],
        rows) + '</div>'


def _exit_names(count: int) -> List[str]:
    """Headings of the columns of exits, each in one line."""
    return [f'exit\N{NO-BREAK SPACE}{k}' for k in range(count)]


def _points(contents: Contents) -> str:
    """What the operating points bring on each data set."""
    timed = contents.latency_ms is not None
    exits = range(len(contents.macs))
    columns = [
        'solved for', f'{contents.unit}s', 'top-1 (%)', '95 % interval',
        'MACs', *(['ms'] if timed else []), *_exit_names(len(exits))
    ]
    rows = [[
        point.name, point.data, f'{100 * point.accuracy:.2f}',
        _interval(point.interval),
        _macs(point.macs), *([f'{point.latency_ms:.3f}'] if timed else []),
        *(f'{100 * share:.1f}' for share in point.shares)
    ] for point in contents.points]
    return table_html(
        'What they bring',
        columns,
        rows,
        groups=[('', len(columns) - len(exits)),
                (f'share of the {contents.unit}s (%)', len(exits))])


def _interval(ends: Tuple[float, float]) -> str:
    """An interval of an accuracy, in percent."""
    return ' to '.join(f'{100 * end:.1f}' for end in ends)


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
            *(f'{100 * found[name][k].accuracy:.2f}' for name in names),
            _interval(contents.interval(found[contents.shown][k].accuracy)),
            f'{100 * contents.ece[k]:.2f}',
            _percent(contents.auroc[k])
        ])
    columns = [
        'exit', 'MACs', 'of the last', *(['ms'] if timed else []),
        *(f'top-1, {name} (%)' for name in names),
        f'95 % interval, {contents.shown}', 'ECE (%)', 'failure AUROC (%)'
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
    columns = ['criterion', 'area (%)', *2 * _exit_names(len(exits))]
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
            f'held-out {contents.unit}s, the numbers are of the '
            f'{contents.shown} {contents.unit}s. Coloured: best of a column.'),
        table_html('Comparison of the criteria', columns, rows,
                   best, [('', 2), ('ECE (%)', len(exits)),
                          ('AUROC (%)', len(exits))])
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


def _gallery(contents: Contents, pictures: Pictures) -> List[str]:
    """Easy and hard images; their names are text of the page."""
    parts = []
    for heading, images in pictures.gallery.items():
        cells: List[Cell] = []
        for image in images:
            lines = [image.truth]
            if not image.right:
                lines.append(f'taken for {image.predicted}')
            lines.append(f'{100 * image.confidence:.0f} %')
            cells.append((image.pixels, ', '.join(lines), lines,
                          'right' if image.right else 'wrong'))
        parts.append(f'<h3>{heading}</h3>')
        if cells:
            parts.append(cells_html(cells, f'{contents.unit}s'))
    if parts:
        parts.append(
            paragraph('Green: right. Red: the true class, then the wrong one '
                      'that it got. The percentage is the confidence.'))
    return parts


def _maps(contents: Contents, pictures: Pictures) -> List[str]:
    """Images with the activation map of each exit."""
    parts = []
    for image in pictures.maps:
        cells: List[Cell] = [
            (image.pixels, image.truth,
             [image.truth, f'leaves at exit {image.exit_index}'], '')
        ]
        for k in mapped_exits(pictures.maps):
            if image.maps[k] is None:
                continue
            lines = [f'exit {k}', image.predicted[k]]
            leaves = 'leaves' if k == image.exit_index else ''
            cells.append(
                (overlay(image.pixels, image.maps[k]),
                 f'activation map, {", ".join(lines)}', lines, leaves))
        parts.append(cells_html(cells, 'maps'))
    if not parts:
        return []
    text = ('Bright: speaks for the class that the exit predicts (HiResCAM; '
            'dark all over: nothing does). Framed: the exit where the image '
            'leaves. Exits that classify latents: the features that the '
            'latents read last.')
    left_out = [
        str(k) for k in range(len(contents.macs))
        if k not in mapped_exits(pictures.maps)
    ]
    if left_out:
        text += (f' Left out: exit {", ".join(left_out)}, whose features '
                 f'have fewer than {LEAST_PLACES} x {LEAST_PLACES} places.')
    return [*parts, paragraph(text)]
