# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Many files, some of them broken, and how their results are kept."""
import csv
import io
import json
import os
import shutil
import signal
import sys

import pytest
from PIL import Image

from mmdynperceiver.datasets.image_files import list_images
from mmdynperceiver.deploy import Runner, stream
from mmdynperceiver.deploy.__main__ import main
from mmdynperceiver.deploy.printing import Count, Printer
from mmdynperceiver.deploy.stream import classify_files

QUIET = ('--quiet', '--threads', '1')


@pytest.fixture
def mixed(photos, tmp_path):
    """Six photos in a linked folder; broken, hidden and thin files beside."""
    root = tmp_path / 'mixed'
    root.mkdir()
    os.symlink(photos, root / 'linked')
    (root / '._a.png').write_bytes(b'\0\5\26\7')
    (root / 'broken[red].png').write_bytes(b'broken')
    (root / 'empty.jpg').write_bytes(b'')
    Image.new('RGB', (1, 5000)).save(root / 'thin.png')
    os.symlink('nowhere', root / 'dangling.png')
    return root


BROKEN = ['broken[red].png', 'dangling.png', 'empty.jpg']


def names(paths):
    return [os.path.basename(path) for path in paths]


@pytest.fixture
def classify(resnet):
    """Runs the command line; its exit status."""
    return lambda *given: main([resnet.folder, *map(str, given)])


def test_broken_files_are_named_and_the_others_classified(
        classify, mixed, photos, tmp_path, capsys):
    out = tmp_path / 'out.json'
    empty = tmp_path / 'empty'
    empty.mkdir()
    assert classify(mixed, empty, '--out', out, '--batch-size', '4',
                    *QUIET) == 0
    content = json.loads(out.read_text())
    assert content['complete'] is True
    assert names(row['path'] for row in content['results']) == sorted(
        os.listdir(photos)) + ['thin.png']
    assert names(row['path']
                 for row in content['broken']) == ['empty', *BROKEN]
    assert all(row['error'] for row in content['broken'])
    printed = capsys.readouterr()
    for name in BROKEN:
        assert name in printed.err and name in printed.out
    assert '7 images; left at exits 0 to 3' in printed.out
    assert '4 could not be read and were skipped' in printed.out
    times = content['milliseconds']
    assert set(times) == {'preparing', 'image', 'batch'}
    assert all(0 < found['median'] <= found['p90'] for found in times.values())
    assert f'a batch of 4: {times["batch"]["median"]:.2f} / ' in printed.out


def test_stops_at_a_broken_file_where_told(classify, photos, tmp_path, capsys):
    out = tmp_path / 'out.jsonl'
    folder = tmp_path / 'some'
    shutil.copytree(photos, folder)
    (folder / '3-broken.png').write_bytes(b'broken')
    assert classify(folder, '--out', out, '--on-broken', 'raise',
                    '--batch-size', '4', *QUIET) == 1
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert names(row['path'] for row in rows) == [
        '0-RGB.jpg', '1-RGB.png', '2-L.jpg', '3-RGBA.png'
    ]
    assert '3-broken.png' in capsys.readouterr().err.splitlines()[-1]
    empty = tmp_path / 'empty'
    empty.mkdir()
    assert classify(photos, empty, '--on-broken', 'raise', *QUIET) == 1
    assert 'there is no image in' in capsys.readouterr().err.splitlines()[-1]


def test_nothing_but_broken_files(classify, mixed, tmp_path, capsys):
    out = tmp_path / 'out.csv'
    assert classify(*(mixed / name for name in BROKEN), '--out', out,
                    *QUIET) == 1
    with open(out, newline='') as file:
        rows = list(csv.DictReader(file))
    assert names(row['path'] for row in rows) == BROKEN
    assert all(row['error'] and not row['label'] for row in rows)
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith('error: none of the files') and 'red' in error


def test_tables_and_lines_hold_the_same(classify, photos, tmp_path):
    for ending in ('csv', 'jsonl', 'json'):
        assert classify(photos, '--out', tmp_path / f'out.{ending}',
                        *QUIET) == 0
    with open(tmp_path / 'out.csv', newline='') as file:
        table = list(csv.DictReader(file))
    lines = [
        json.loads(line)
        for line in (tmp_path / 'out.jsonl').read_text().splitlines()
    ]
    whole = json.loads((tmp_path / 'out.json').read_text())['results']
    assert len(table) == len(lines) == len(whole) == 6
    for one, other, third in zip(table, lines, whole):
        assert set(other) == set(third) and len(other['scores']) == 5
        for key in ('path', 'label', 'name', 'score', 'exit_index', 'macs'):
            assert one[key] == str(other[key]) and other[key] == third[key]


@pytest.mark.parametrize('ending', ['json', 'jsonl', 'csv'])
@pytest.mark.parametrize('stop', [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_keeps_what_was_done(classify, photos, tmp_path,
                                           monkeypatch, capsys, request,
                                           ending, stop):
    # Whoever runs the tests in the background may have it ignored.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, handler))
    predict, calls = stream._predict, []

    def two_batches(*args):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), stop)
        return predict(*args)

    monkeypatch.setattr(stream, '_predict', two_batches)
    before = signal.getsignal(signal.SIGTERM)
    out = tmp_path / f'out.{ending}'
    assert classify(photos, '--out', out, *QUIET) == 130
    assert signal.getsignal(signal.SIGTERM) is before
    printed = capsys.readouterr()
    assert '2 images; left' in printed.out and 'stopped' in printed.err
    text = out.read_text()
    if ending == 'json':
        content = json.loads(text)
        assert content['complete'] is False and len(content['results']) == 2
    else:
        assert len(text.splitlines()) == 2 + (ending == 'csv')


def test_odd_names_stay_on_their_line(classify, photos, tmp_path,
                                      capsysbinary):
    folder = os.fsencode(tmp_path / 'odd')
    os.mkdir(folder)
    for name in (b'a\nb.bmp', b'\xff.bmp', b'\x1b[31m.bmp'):
        shutil.copy(photos / '5-RGB.bmp', os.path.join(folder, name))
    out = tmp_path / 'out.csv'
    assert classify(os.fsdecode(folder), '--out', out, '--threads', '1') == 0
    printed = capsysbinary.readouterr().out
    for shown in (rb'a\nb.bmp', rb'\udcff.bmp', rb'\x1b[31m.bmp'):
        assert shown in printed
    assert b'\x1b' not in printed
    with open(out, newline='', errors='surrogateescape') as file:
        rows = list(csv.DictReader(file))
    assert sorted(os.fsencode(row['path']) for row in rows) == sorted(
        os.path.join(folder, name) for name in os.listdir(folder))


@pytest.mark.parametrize('arguments, code, message', [
    (['{folder}', 'nowhere.jpg'], 1, "no image file 'nowhere.jpg'"),
    (['{photos}', '{photos}'], 1, 'no manifest.json'),
    (['{folder}', '{photos}', '--thresholds', '1'], 1, 'need 3 thresholds'),
    (['{folder}', '{photos}', '--batch-size', '0'], 2, 'at least 1, got 0'),
    (['{folder}', '{photos}', '--max-pixels', '0'], 2, 'at least 1, got 0'),
    (['{folder}', '{photos}', '--out', '/no/where.json'], 2, 'no folder for'),
    (['{folder}', '{photos}', '--out', 'results.txt'
      ], 2, 'must end with .json, .jsonl, .csv, .parquet'),
])
def test_errors_of_use_are_one_line(resnet, photos, capsys, arguments, code,
                                    message):
    places = dict(folder=resnet.folder, photos=photos)
    try:
        got = main([argument.format(**places) for argument in arguments])
    except SystemExit as stop:
        got = stop.code
    assert got == code
    error = capsys.readouterr().err.strip().splitlines()
    assert message in error[-1] and 'Traceback' not in error[0]


def test_limit_of_pixels(classify, photos, capsys):
    assert classify(photos, '--max-pixels', '4000', *QUIET) == 0
    printed = capsys.readouterr()
    assert '2 images; left' in printed.out
    assert printed.err.count('more than the limit of 4,000') == 4


def test_counts_on_a_terminal(monkeypatch):

    class Terminal(io.StringIO):

        def isatty(self):
            return True

    monkeypatch.setattr(sys, 'stderr', Terminal())
    count = Count(1500)
    count.show(1000)
    count.show(1001)  # too soon
    assert sys.stderr.getvalue() == '1,000 of 1,500 images'
    count.clear()
    count.clear()
    assert sys.stderr.getvalue() == '1,000 of 1,500 images\r\x1b[K'
    monkeypatch.setattr(sys, 'stderr', io.StringIO())
    Count(1500).show(1000)
    assert sys.stderr.getvalue() == ''


def test_scores_are_not_kept(resnet, photos):
    """Of a thousand classes and a million images they are 4 GB."""
    runner = Runner.load(resnet.folder, threads=1)
    printer = Printer([], 2, quiet=True)
    for done in classify_files(runner, list_images(photos), batch_size=2):
        printer.batch(done)
    assert len(printer.results) == 6
    for result in printer.results:
        kept = result.scores if result.scores.base is None else \
            result.scores.base
        assert kept.size == 0


def test_times_are_those_of_sizes_met_before(resnet, photos):
    """The first batch of a size runs twice; only the second time counts."""
    runner = Runner.load(resnet.folder, threads=1)
    files = [str(path) for path in sorted(photos.iterdir())]
    sizes, predict = [], runner.predict

    def count(batch, policy=None, stream=None):
        sizes.append(len(batch))
        return predict(batch, policy, stream)

    runner.predict = count
    prepared = []
    prepare = runner.preprocessing
    runner.preprocessing = lambda path: (prepared.append(path), prepare(path))[
        1]
    done = list(classify_files(runner, files * 2, batch_size=5))
    assert sizes == [5, 5, 5, 2, 2]
    assert prepared == files[:1] + files * 2
    assert [len(batch.results) for batch in done] == [5, 5, 2]
    for batch in done:
        assert batch.milliseconds == max(r.milliseconds for r in batch.results)
