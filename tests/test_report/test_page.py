# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The report's page, read by a parser as a browser would."""
import json
import re

import numpy as np
import pytest
import torch

from mmdynperceiver.core import OperatingPoint
from mmdynperceiver.report import Curve, Sample
from mmdynperceiver.report.figure import VARIABLES
from .helpers import Page
from .test_activation_maps import build
from .test_write import MACS, pictures, samples, write

PLOTS = {'accuracy_macs', 'accuracy_latency', 'shares', 'reliability'}
# A page or a console would take parts of these for their own.
NAMES = ('[bold]<b>cat</b>{{ 7 * 7 }}', 'shark, "man-eater" &amp;', '日本の犬')


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
        curves=[Curve('<i>other</i>', [300.], [70.])])
    return path.parent, Page(path)


def style_of(page):
    style, = page.root.all('head')[0].all('style')
    return style.text


def test_nothing_comes_from_elsewhere(full):
    folder, page = full
    text = (folder / 'index.html').read_text()
    links = [
        element.attributes[key] for element in page.root
        for key in ('href', 'xlink:href', 'src') if key in element.attributes
    ]
    assert len(links) > 50
    assert all(link.startswith(('data:image/', '#')) for link in links)
    assert not re.search(r'https?://|url\((?!#)|@import', text)
    assert not page.root.all('script')


def test_identifiers_are_unique_and_there(full):
    page = full[1].root
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
    sections = [s.attributes['id'] for s in page.all('section')]
    links = page.all('nav')[0].all('a')
    assert [link.attributes['href'][1:] for link in links] == sections
    titles = [s.all('h2')[0].text for s in page.all('section')]
    assert [link.text for link in links] == titles


def test_names_are_text(full):
    page = full[1].root
    assert page.all('h1')[0].text == 'Leaving early: a <small> net'
    assert page.all('title')[0].text == 'Leaving early: a <small> net'
    for tag in ('small', 'b', 'i'):
        assert not page.all(tag)
    curve = full[1].section('curve').all('svg')[0]
    assert '<i>other</i>' in [text.text for text in curve.all('text')]


def test_leads_with_four_figures(full):
    header, = full[1].root.all('header')
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
    ms = torch.tensor((1, 2, 3, 4))[leaves].double().mean().item()
    early = (leaves < 3).double().mean().item()
    last = right[-1].double().mean().item()
    values = [figure.all('dd', 'value')[0].text for figure in figures]
    assert values == [
        f'{accuracy:.2%}', f'{macs / 1e6:.3f} M', f'{ms:.3g}', f'{early:.1%}'
    ]
    notes = [
        ' '.join(note.text for note in figure.all('dd')[1:])
        for figure in figures
    ]
    interval = r' ?\[[-+]?\d+\.\d to [-+]?\d+\.\d\] ?'
    assert [re.sub(interval, '~', note) for note in notes] == [
        f'~{100 * (accuracy - last):+.2f} points~against the last exit, '
        f'{last:.2%}', f'{macs / 1000:.0%}~of the last exit, 0.001 M',
        f'{ms / 4:.0%}~of the last exit, 4',
        f'~of the images leave before the last exit; {1 - early:.1%} run to it'
    ]
    lead = header.all('p', 'lead')[0].text
    assert lead.startswith('80 held-out and 80 test images; 4 exits; an image '
                           'leaves where its confidence (max_prob) reaches')
    assert 'budget 0.5 M MACs, on 80 test images' in lead


def test_without_latencies_and_points(tmp_path):
    page = Page(write(tmp_path / 'report', test=None, num_budgets=3))
    header, = page.root.all('header')
    assert len(header.all('dt')) == 3 and 'ms' not in header.text.split()
    assert header.text.count('80 held-out images') == 2
    # The middle one of the searched points stands for the chosen one.
    row, = page.section('points').all('table')[0].cells()
    assert row[0].startswith('budget ') and len(row) == 4
    sections = [s.attributes['id'] for s in page.root.all('section')]
    assert sections == [
        'points', 'curve', 'exits', 'shares', 'reliability', 'criteria'
    ]
    assert 'so this is optimistic' in page.section('curve').text
    names = {path.stem for path in (tmp_path / 'report').glob('*.png')}
    assert names == PLOTS - {'accuracy_latency'}
    content = json.loads((tmp_path / 'report/curve.json').read_text())
    assert content['judged_on'] == 'held-out'
    assert {point['data'] for point in content['points']} == {'held-out'}


def test_tables_say_what_the_file_says(full):
    """Every table, cell by cell, against curve.json."""
    folder, page = full
    content = json.loads((folder / 'curve.json').read_text())
    # The first of all sections: thresholds have a table of their own.
    assert page.root.all('section')[0] is page.section('points')
    thresholds, outcome = page.section('points').all('table')
    assert thresholds.cells() == [
        ['budget 0.5 M MACs, max_prob', '0.5', '0.625', '0.75'],
        ['operating point, entropy', '0.999988', '0.8', '0.7'],
    ]
    assert outcome.cells() == [[
        p['name'], p['data'], f'{100 * p["accuracy"]:.2f}',
        ' to '.join(f'{100 * end:.1f}'
                    for end in p['interval']), f'{p["macs"] / 1e6:.3f} M',
        f'{p["latency_ms"]:.3f}', *(f'{100 * share:.1f}'
                                    for share in p['shares'])
    ] for p in content['points']]
    areas, = page.section('curve').all('table')
    assert [row[1:] for row in areas.cells()
            ] == [[f'{100 * value:.2f}' for value in both.values()]
                  for both in content['area_under_curve'].values()]
    exits, = page.section('exits').all('table')
    static = {
        (row['series'], row['data']): row['accuracy']
        for row in content['rows'] if row['series'].startswith('exit')
    }
    for k, row in enumerate(exits.cells()):
        accuracies = [
            f'{100 * static[f"exit {k}", name]:.2f}'
            for name in ('held-out', 'test')
        ]
        assert row[:4] == [
            f'exit {k}', f'{MACS[k] / 1e6:.3f} M', f'{MACS[k] / 1000:.0%}',
            f'{k + 1}.000'
        ]
        assert row[4:6] == accuracies
        low, high = map(float, row[6].split(' to '))
        assert low < float(row[5]) < high
        assert row[7:] == [
            f'{100 * content["ece"][k]:.2f}',
            f'{100 * content["failure_auroc"][k]:.1f}'
        ]


def test_tables_scroll_in_their_boxes(full):
    page = full[1].root
    tables = page.all('table')
    assert len(tables) == 6
    for table in tables:
        assert table.parent.attributes['class'] == 'scroll'
        assert table.parent.attributes['tabindex'] == '0'
        assert table.parent.attributes['aria-label']
        head, = table.all('thead')
        width = len(table.cells()[0])
        for row in head.all('tr'):
            assert width == sum(
                int(cell.attributes.get('colspan', 1)) for cell in row.parts)
        assert all(len(row) == width for row in table.cells())
    assert '.scroll { overflow-x: auto; }' in style_of(full[1])


def test_criteria_table_marks_the_best(full):
    folder, page = full
    content = json.loads((folder / 'curve.json').read_text())
    table, budgets = page.section('criteria').all('table')
    assert [th.text for th in table.all('thead')[0].parts[0].parts
            ] == ['', 'ECE (%)', 'AUROC (%)']
    assert table.cells() == [[
        row['criterion'] + ' + temperature' * bool(row['temperature']) +
        (f', {row["ensemble"]} of exits' if row['ensemble'] else ''),
        f'{100 * row["area"]:.2f}', *(f'{100 * x:.2f}' for x in row['ece']),
        *(f'{100 * x:.1f}' for x in row['auroc'])
    ] for row in content['criteria']]
    for row, cells in zip(content['criteria'], budgets.cells()):
        assert cells[-1] == f'{row["microseconds"]:.0f}'
        assert cells[2].startswith(f'{100 * row["at"][1][0]:.2f} [')
    for column in range(1, 10):
        cells = [row.parts[column] for row in table.all('tbody')[0].parts]
        marked = {
            cell.text
            for cell in cells if cell.attributes.get('class') == 'best'
        }
        choose = min if 2 <= column < 6 else max
        assert marked == {choose((cell.text for cell in cells), key=float)}


def test_plots_fit_wide_and_narrow_pages(full):
    figures = full[1].root.all('figure', 'plot')
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
            float(size) for text in narrow.all('text') for size in re.findall(
                r'font(?:-size)?: ([\d.]+)px', text.attributes['style'])
        ]
        assert fonts and min(fonts) * 330 / sizes[1] >= 11
    style = style_of(full[1])
    narrow = style[style.index('@media (max-width: 850px)'):]
    assert '.plot .wide { display: none; }' in narrow
    assert '.plot .narrow { display: block; }' in narrow


def test_plots_fit_dark_pages(full):
    for svg in full[1].root.all('svg'):
        colours = [
            colour for element in svg
            for colour in re.findall(r'(?<!, )#[0-9a-f]{6}\b',
                                     element.attributes.get('style') or '')
        ]
        assert colours == []
    style = style_of(full[1])
    light, dark = re.findall(r':root \{([^}]*)\}', style)
    assert 'prefers-color-scheme: dark' in style
    for colour, name in VARIABLES.items():
        assert f'{name}: {colour};' in light
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


def test_gallery_has_names_as_text(full):
    gallery = full[1].section('gallery')
    assert [h3.text.split(':')[0]
            for h3 in gallery.all('h3')] == [f'exit {k}' for k in range(4)]
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
    maps = full[1].section('maps')
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


def strips(index):
    pixels = np.random.default_rng(index).integers(0, 255, (16, 64, 3))
    return Sample(pixels.astype(np.uint8))


def test_clips_are_called_clips(tmp_path):
    strips.unit = 'clip'
    page = Page(write(tmp_path / 'report', images=strips, num_budgets=2))
    body, = page.root.all('body')
    words = set(re.findall(r'\w+', body.text))
    assert {'clip', 'clips'} <= words and not {'image', 'images'} & words
    assert ' a clip leaves ' in body.text
    for row in page.section('gallery').all('ul'):
        assert row.attributes['class'] == 'cells clips'
        assert len(row.all('li')) <= 4
