# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The report's page, read by a parser as a browser would."""
import json
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmdynperceiver.core import OperatingPoint
from mmdynperceiver.report import Curve, PipelineImages, Sample, draw
from mmdynperceiver.report.figure import VARIABLES
from mmdynperceiver.report.page import table_html
from mmdynperceiver.report.style import STYLE
from .test_activation_maps import build
from .test_write import MACS, pictures, samples, write

PLOTS = {'accuracy_macs', 'accuracy_latency', 'shares', 'reliability'}
NAMES = ('[bold]cat[/bold]', 'shark, man-eater', '日本の犬')


class Element:
    """An element of a page: its attributes, its parts and its text."""

    def __init__(self, tag, attributes=(), parent=None):
        self.tag, self.attributes = tag, dict(attributes)
        self.parent, self.parts = parent, []

    def __iter__(self):
        for part in self.parts:
            if isinstance(part, Element):
                yield part
                yield from part

    def all(self, tag, kind=None):
        return [
            part for part in self if part.tag == tag and
            (kind is None or kind in part.attributes.get('class', '').split())
        ]

    @property
    def text(self):
        return ''.join(
            part if isinstance(part, str) else part.text
            for part in self.parts)

    @property
    def parents(self):
        parent = self.parent
        while parent is not None:
            yield parent
            parent = parent.parent


class Page(HTMLParser):
    """A tree of elements; every one of them must be closed."""

    void = {'meta', 'img'}

    def __init__(self, path):
        super().__init__()
        self.place = self.root = Element('page')
        self.feed(path.read_text())
        assert self.place is self.root

    def handle_starttag(self, tag, attributes):
        element = Element(tag, attributes, self.place)
        self.place.parts.append(element)
        if tag not in self.void:
            self.place = element

    def handle_endtag(self, tag):
        if tag not in self.void:
            assert self.place.tag == tag
            self.place = self.place.parent

    def handle_data(self, data):
        self.place.parts.append(data)


@pytest.fixture(scope='module')
def full(tmp_path_factory):
    """The folder and the page of a report with everything."""
    path = write(
        tmp_path_factory.mktemp('full') / 'report',
        points=[
            OperatingPoint((0.5, 0.625, 0.75),
                           solved_for=dict(budget_macs=5e5)),
            OperatingPoint((0.999988, 0.8, 0.7), 'entropy')
        ],
        latency_ms=(1, 2, 3, 4),
        images=pictures,
        model=build(),
        class_names=NAMES,
        curves=[Curve('other', [300.], [70.])])
    return path.parent, Page(path).root


def section(page, name):
    found, = [s for s in page.all('section') if s.attributes['id'] == name]
    return found


def cells(table):
    """Text of the cells of a table, row by row, less its headings."""
    body, = table.all('tbody')
    return [[cell.text for cell in row.parts] for row in body.all('tr')]


def test_nothing_comes_from_elsewhere(full):
    folder, page = full
    text = (folder / 'index.html').read_text()
    links = [
        element.attributes[key] for element in page
        for key in ('href', 'xlink:href', 'src') if key in element.attributes
    ]
    assert len(links) > 50
    assert all(link.startswith(('data:image/', '#')) for link in links)
    assert not re.search(r'https?://|url\((?!#)|@import', text)
    assert not page.all('script')


def test_identifiers_are_unique_and_there(full):
    _, page = full
    names = [e.attributes['id'] for e in page if 'id' in e.attributes]
    assert len(names) == len(set(names))
    wanted = {
        e.attributes[key][1:]
        for e in page
        for key in ('href', 'xlink:href')
        if e.attributes.get(key, '').startswith('#')
    }
    wanted |= {
        match
        for e in page
        for value in e.attributes.values()
        for match in re.findall(r'url\(#([^)]+)\)', value or '')
    }
    assert len(wanted) > 20 and wanted <= set(names)


def test_leads_with_four_figures(full):
    _, page = full
    header, = page.all('header')
    figures = header.all('dl', 'figures')[0].parts
    assert [figure.all('dt')[0].text for figure in figures] == [
        'Accuracy', 'MACs, mean of one image',
        'Milliseconds, mean of one image', 'Early exits'
    ]
    test = samples(1)
    conf = torch.stack([x.softmax(1).amax(1) for x in test.logits])
    right = torch.stack([x.argmax(1) == test.labels for x in test.logits])
    leaves = torch.full_like(test.labels, 3)
    for k, threshold in ((2, 0.75), (1, 0.625), (0, 0.5)):
        leaves[conf[k] >= threshold] = k
    accuracy = right.gather(0, leaves[None]).double().mean().item()
    macs = torch.tensor(MACS)[leaves].double().mean().item()
    values = [figure.all('dd', 'value')[0].text for figure in figures]
    assert values[0] == f'{accuracy:.2%}'
    assert values[1] == f'{macs / 1e6:.3f} M'
    assert values[3] == f'{(leaves < 3).double().mean().item():.1%}'
    notes = [
        ''.join(note.text for note in figure.all('dd')[1:])
        for figure in figures
    ]
    for note in notes:
        assert re.search(r'\[-?\d.* to .*\d\]', note)
    last = right[-1].double().mean().item()
    assert f'against the last exit, {last:.2%}' in notes[0]
    assert f'{macs / 1000:.0%} [' in notes[1]
    assert 'of the last exit, 0.001 M' in notes[1]


def test_without_latencies_and_points(tmp_path):
    page = Page(write(tmp_path / 'report', test=None, num_budgets=3)).root
    header, = page.all('header')
    assert len(header.all('dt')) == 3 and 'ms' not in header.text.split()
    # The middle one of the searched points stands for the chosen one.
    row, = cells(section(page, 'points').all('table')[0])
    assert row[0].startswith('budget ') and len(row) == 4
    assert not [
        s for s in page.all('section')
        if s.attributes['id'] in ('gallery', 'maps')
    ]
    names = {path.stem for path in (tmp_path / 'report').glob('*.png')}
    assert names == PLOTS - {'accuracy_latency'}
    content = json.loads((tmp_path / 'report/curve.json').read_text())
    assert content['judged_on'] == 'held-out'
    assert {point['data'] for point in content['points']} == {'held-out'}


def test_thresholds_have_a_table_of_their_own(full):
    _, page = full
    points = section(page, 'points')
    # The first of all sections, and its first table.
    assert page.all('section')[0] is points
    thresholds, outcome = points.all('table')
    assert cells(thresholds) == [
        ['budget 0.5 M MACs, max_prob', '0.5', '0.625', '0.75'],
        ['operating point, entropy', '0.999988', '0.8', '0.7'],
    ]
    assert [row[1] for row in cells(outcome)] == ['held-out', 'test'] * 2


def test_tables_scroll_in_their_boxes(full):
    _, page = full
    tables = page.all('table')
    assert len(tables) == 5
    for table in tables:
        assert table.parent.attributes['class'] == 'scroll'
        assert table.parent.attributes['tabindex'] == '0'
        head, = table.all('thead')
        width = len(cells(table)[0])
        for row in head.all('tr'):
            assert width == sum(
                int(cell.attributes.get('colspan', 1)) for cell in row.parts)
        assert all(len(row) == width for row in cells(table))
    assert re.search(r'\.scroll \{ overflow-x: auto; \}', STYLE)


def test_groups_of_columns():
    text = table_html('c', ['a', 'b', 'c'], [['1', '2', '3']], [(0, 1)],
                      [('', 1), ('both', 2)])
    assert '<th scope="colgroup" colspan="2">both</th>' in text
    assert '<td class="best">2</td><td>3</td>' in text


def test_criteria_table_is_complete(full):
    _, page = full
    table, = section(page, 'criteria').all('table')
    assert [th.text for th in table.all('thead')[0].parts[0].parts
            ] == ['', 'ECE (%)', 'AUROC (%)']
    rows = cells(table)
    assert len(rows) == 7 and all(len(row) == 10 for row in rows)
    for column in range(1, 10):
        marked = [
            row.parts[column].text for row in table.all('tbody')[0].parts
            if row.parts[column].attributes.get('class') == 'best'
        ]
        values = [float(row[column]) for row in rows]
        best = min(values) if 2 <= column < 6 else max(values)
        assert {float(value) for value in marked} == {best}


def test_plots_fit_wide_and_narrow_pages(full):
    folder, page = full
    figures = page.all('figure', 'plot')
    assert len(figures) == len(PLOTS)
    for figure in figures:
        wide, narrow = figure.all('svg')
        for svg, kind in ((wide, 'wide'), (narrow, 'narrow')):
            assert svg.parent.attributes['class'] == kind
            assert svg.parent.attributes['role'] == 'img'
            assert svg.parent.attributes['aria-label']
        sizes = [
            float(svg.attributes['viewbox'].split()[2])
            for svg in (wide, narrow)
        ]
        assert sizes[0] > 500 and sizes[1] < 270
        # On a phone of 390 pixels a picture has at least 330.
        fonts = [
            float(size) for text in narrow.all('text') for size in
            re.findall(r'font-size: ([\d.]+)px', text.attributes['style']) +
            re.findall(r'font: ([\d.]+)px', text.attributes['style'])
        ]
        assert fonts and min(fonts) * 330 / sizes[1] >= 11
    for name in PLOTS:
        for end in ('.png', '.svg', '_narrow.svg'):
            assert (folder / f'{name}{end}').stat().st_size > 1000
    narrow = STYLE[STYLE.index('@media (max-width: 850px)'):]
    assert '.plot .wide { display: none; }' in narrow
    assert '.plot .narrow { display: block; }' in narrow


def test_plots_fit_dark_pages(full):
    _, page = full
    for svg in page.all('svg'):
        colours = [
            colour for element in svg
            for colour in re.findall(r'(?<!, )#[0-9a-f]{6}\b',
                                     element.attributes.get('style') or '')
        ]
        assert colours == []
    light, dark = re.findall(r':root \{([^}]*)\}', STYLE)
    assert 'prefers-color-scheme: dark' in STYLE
    assert all(f'{name}:' in light for name in VARIABLES.values())
    for name in ('--ink', '--card', '--line', '--c0'):
        assert f'{name}:' in dark
    for name, value in re.findall(r'(--[a-z]+\d*): (#\w+);', dark):
        if name not in ('--paper', '--card', '--line'):
            assert contrast(value, '#161b22') > 3, name
    for name, value in re.findall(r'(--c\d+): (#\w+);', light):
        assert name in dark or contrast(value, '#161b22') > 3, name


def contrast(one, other):
    """Contrast of two colours as accessibility guidelines count it."""

    def luminance(colour):
        parts = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [((p + 0.055) / 1.055)**2.4 if p > 0.04 else p / 12.92
                  for p in parts]
        return np.dot(linear, (0.2126, 0.7152, 0.0722))

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_curve_and_shares_reach_the_last_exit(full):
    folder, page = full
    curve, _, shares, _ = page.all('figure', 'plot')
    texts = [text.text for text in curve.all('svg')[0].all('text')]
    assert {f'exit {k}' for k in range(4)} <= set(texts)
    assert 'its 95 % interval' in texts and 'other' in texts
    names = [text.text for text in shares.all('svg')[0].all('text')]
    assert 'mean MACs of one image (M)' in names


def test_gallery_has_names_as_text(full):
    _, page = full
    gallery = section(page, 'gallery')
    assert len(gallery.all('h3')) == 4
    items = gallery.all('li')
    assert 10 < len(items) <= 40
    for item in items:
        lines = [span.text for span in item.all('span')]
        assert lines[0] in NAMES and lines[-1].endswith(' %')
        assert item.attributes['class'] == ('right'
                                            if len(lines) == 2 else 'wrong')
        if len(lines) == 3:
            assert lines[1].startswith('taken for ')
            assert lines[1][10:] in NAMES and lines[1][10:] != lines[0]
        assert item.all('img')[0].attributes['alt'] == ', '.join(lines)
    assert {item.all('span')[0].text for item in items} == set(NAMES)


def test_maps_of_few_places_are_left_out(full):
    folder, page = full
    maps = section(page, 'maps')
    for row in maps.all('ul'):
        names = [item.all('span')[0].text for item in row.all('li')]
        # Of 64 x 64 pixels stages 3 and 4 make 4 x 4 and 2 x 2 places.
        assert names[1:] == ['exit 0', 'exit 1'] and names[0] in NAMES
        framed = [
            item for item in row.all('li')
            if item.attributes['class'] == 'leaves'
        ]
        leaves = row.all('span')[1].text
        assert leaves.startswith('leaves at exit ')
        assert len(framed) == (leaves[-1] in '01')
    assert 'Left out: exit 2, 3, whose features have fewer than 4 x 4' in \
        maps.text
    assert (folder / 'activation_maps.png').is_file()


def test_headings_are_escaped(full):
    folder, page = full
    assert page.all('h1')[0].text == 'Leaving early: a <small> net'
    assert not page.all('small')


def strips(index):
    pixels = np.random.default_rng(index).integers(0, 255, (16, 64, 3))
    return Sample(pixels.astype(np.uint8))


def test_clips_are_called_clips(tmp_path):
    strips.unit = 'clip'
    path = write(tmp_path / 'report', images=strips, num_budgets=2)
    page = Page(path).root
    body, = page.all('body')
    words = set(re.findall(r'\w+', body.text))
    assert {'clip', 'clips'} <= words and not {'image', 'images'} & words
    for row in section(page, 'gallery').all('ul'):
        assert row.attributes['class'] == 'cells clips'
        assert len(row.all('li')) <= 4


def test_unit_of_a_data_set():
    model = SimpleNamespace(data_preprocessor=None)
    for shape, unit in (((3, 8, 8), 'image'), ((4, 3, 8, 8), 'clip')):
        data = [dict(inputs=torch.zeros(shape))]
        assert PipelineImages(data, model).unit == unit


def test_no_map_is_large_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(draw, 'LEAST_PLACES', 9)
    path = write(
        tmp_path / 'report', images=pictures, model=build(), num_budgets=2)
    assert not (path.parent / 'activation_maps.png').exists()
    names = [s.attributes['id'] for s in Page(path).root.all('section')]
    assert 'gallery' in names and 'maps' not in names
