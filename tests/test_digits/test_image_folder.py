# Copyright (c) mmdynperceiver contributors. All rights reserved.
import csv
import json
import os
from collections import Counter

import cv2
import numpy as np
import pytest

from projects.digits import DigitSource, ImageFolder, draw_image, folder
from projects.digits.__main__ import main
from projects.digits.folder import item_seed

COUNTS = dict(train=53, val=20, test=10)


def write(root, counts=COUNTS, size=32, seed=3, hardness=1., **options):
    folder = ImageFolder(counts, size, seed, hardness)
    return folder.write(root, **options)


def content(root):
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob('*')) if path.is_file()
    }


def index(root, split):
    with open(root / f'{split}.csv', newline='') as file:
        return list(csv.DictReader(file))


class Interrupt(Exception):
    pass


def stop_after(number):

    def progress(done, total):
        if done >= number:
            raise Interrupt

    return progress


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp('made') / 'digits'
    assert write(root)
    return root


def test_layout(made):
    names = {path.name for path in made.iterdir()}
    assert names == {
        'train', 'val', 'test', 'train.csv', 'val.csv', 'test.csv',
        'dataset.json'
    }
    assert list(made.parent.iterdir()) == [made]
    for split, count in COUNTS.items():
        files = sorted((made / split).rglob('*.jpg'))
        assert len(files) == count
        assert {path.parent.name for path in files} == set('0123456789')
    image = cv2.imread(str(made / 'train' / '3' / '000013.jpg'))
    assert image.shape == (32, 32, 3)


def test_index_tells_how_each_image_was_made(made):
    for split, count in COUNTS.items():
        rows = index(made, split)
        source = DigitSource(split)
        assert len(rows) == count
        per_class = Counter(row['label'] for row in rows).values()
        assert max(per_class) - min(per_class) <= 1
        for number, row in enumerate(rows):
            assert row['file'] == f'{split}/{row["label"]}/{number:06d}.jpg'
            assert int(row['seed']) == item_seed(3, split, number)
            position = np.searchsorted(source.indices, int(row['source']))
            assert source.indices[position] == int(row['source'])
            assert source.labels[position] == int(row['label'])
    rendered, difficulty = draw_image(
        source, int(position), int(row['seed']), size=32)
    assert float(row['difficulty']) == pytest.approx(difficulty, abs=1e-6)
    written = cv2.imread(str(made / row['file'])).astype(int)
    # JPEG halves the resolution of colour, so compare brightness.
    change = (written - rendered.image).mean(2)
    assert np.abs(change).mean() < 6


def test_source_digits_are_used_evenly(tmp_path):
    write(tmp_path / 'a', dict(test=450))
    used = Counter(row['source'] for row in index(tmp_path / 'a', 'test'))
    assert len(used) == 300 and set(used.values()) == {1, 2}
    assert not (tmp_path / 'a' / 'train').exists()


def test_second_run_gives_the_same_bytes(made, tmp_path):
    write(tmp_path / 'again')
    assert content(tmp_path / 'again') == content(made)


def test_processes_give_the_same_bytes(made, tmp_path, monkeypatch):
    monkeypatch.setattr(folder, '_POOL_PAYS', 0)
    monkeypatch.setattr(folder, '_CHUNK', 20)
    write(tmp_path / 'again', workers=2)
    assert content(tmp_path / 'again') == content(made)


def test_image_does_not_depend_on_the_counts(made, tmp_path):
    root = tmp_path / 'fewer'
    write(root, dict(train=7))
    for row in index(root, 'train'):
        name = row['file']
        assert (root / name).read_bytes() == (made / name).read_bytes()


@pytest.mark.parametrize('change', [dict(seed=4), dict(hardness=2.)])
def test_parameters_change_the_images(made, tmp_path, change):
    write(tmp_path / 'other', **change)
    ours, other = content(made), content(tmp_path / 'other')
    assert all(ours[name] != other[name] for name in ours
               if name.endswith('.jpg'))


def test_finished_folder_is_reused(made):
    before = (made / 'dataset.json').stat().st_mtime_ns
    calls = []
    assert not write(made, progress=lambda *args: calls.append(args))
    assert not calls
    assert (made / 'dataset.json').stat().st_mtime_ns == before


def test_other_parameters_are_refused(made):
    before = content(made)
    with pytest.raises(FileExistsError, match='seed is 3 and not 9'):
        write(made, seed=9)
    assert content(made) == before


def test_overwrite_replaces_a_data_set(tmp_path):
    root = tmp_path / 'digits'
    write(root, dict(test=10))
    assert write(root, dict(val=10), overwrite=True)
    assert (root / 'val').exists() and not (root / 'test').exists()
    assert list(tmp_path.iterdir()) == [root]
    # With the same parameters there is nothing to replace.
    assert not write(root, dict(val=10), overwrite=True)


@pytest.mark.parametrize('name', ['holiday.jpg', 'dataset.json'])
def test_foreign_folder_is_never_replaced(tmp_path, name):
    root = tmp_path / 'photos'
    root.mkdir()
    (root / name).write_text('{}')
    with pytest.raises(FileExistsError, match='photos exists and is not'):
        write(root, overwrite=True)
    assert [path.name for path in root.iterdir()] == [name]


def test_foreign_partial_folder_is_never_emptied(tmp_path):
    partial = tmp_path / '.digits.partial'
    partial.mkdir()
    (partial / 'thesis.txt').write_text('words')
    with pytest.raises(FileExistsError, match='partial exists and was not'):
        write(tmp_path / 'digits')
    assert (partial / 'thesis.txt').read_text() == 'words'


def test_empty_folder_is_filled(tmp_path, made):
    root = tmp_path / 'digits'
    root.mkdir()
    assert write(root)
    assert content(root) == content(made)


def test_damaged_folder_is_reported(tmp_path):
    root = tmp_path / 'digits'
    write(root, dict(test=10))
    (root / 'test.csv').unlink()
    with pytest.raises(FileNotFoundError, match='test.csv is missing'):
        write(root, dict(test=10))


def test_interrupted_run_goes_on(made, tmp_path, monkeypatch):
    monkeypatch.setattr(folder, '_CHUNK', 10)
    root, partial = tmp_path / 'digits', tmp_path / '.digits.partial'
    with pytest.raises(Interrupt):
        write(root, progress=stop_after(30))
    assert not root.exists()
    kept = partial / 'train' / '9' / '000029.jpg'
    os.utime(kept, ns=(1, 1))
    # As if the process had been killed while it wrote an image.
    (partial / 'train' / '0' / '000030.jpg').write_bytes(b'half an im')
    calls = []
    assert write(root, progress=lambda done, total: calls.append(done))
    assert calls[0] == 30 and calls[-1] == sum(COUNTS.values())
    assert content(root) == content(made) and not partial.exists()
    assert (root / 'train' / '9' / '000029.jpg').stat().st_mtime_ns == 1


def test_interrupted_run_with_other_parameters_starts_again(
        made, tmp_path, monkeypatch):
    monkeypatch.setattr(folder, '_CHUNK', 10)
    root = tmp_path / 'digits'
    with pytest.raises(Interrupt):
        write(root, dict(train=100), size=40, progress=stop_after(60))
    assert write(root)
    assert content(root) == content(made)


def test_interrupted_overwrite_keeps_the_old_data_set(made, tmp_path):
    root = tmp_path / 'digits'
    write(root)
    with pytest.raises(Interrupt):
        write(root, dict(val=10), overwrite=True, progress=stop_after(10))
    assert content(root) == content(made)


@pytest.mark.skipif(os.name != 'posix', reason='locks need POSIX')
def test_two_writers_do_not_meet(tmp_path):
    root = tmp_path / 'digits'

    def second_writer(done, total):
        with pytest.raises(OSError, match='another process is making'):
            write(root)

    assert write(root, progress=second_writer)


def test_unwritable_place_is_reported_before_work(tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('')
    monkeypatch.setattr(folder, '_write_chunk', None)
    with pytest.raises(OSError, match='cannot write to .*file'):
        write(tmp_path / 'file' / 'digits')


def test_full_disk_is_reported_before_work(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, '_write_chunk', None)
    counts = dict(train=10**12)
    monkeypatch.setattr(folder, '_CHUNK', 10**12)
    with pytest.raises(OSError, match='images need about .* MiB'):
        write(tmp_path / 'digits', counts)


@pytest.mark.parametrize('change, error, message', [
    (dict(counts=dict(train=-1)), ValueError, 'train images .* got -1'),
    (dict(counts=dict(train=1.5)), TypeError, 'train images .* got 1.5'),
    (dict(counts=dict(dev=5)), ValueError, "train, val, test, got 'dev'"),
    (dict(counts=dict(train=0)), ValueError, 'at least one split'),
    (dict(size=31), ValueError, 'size must be at least 32, got 31'),
    (dict(size='64'), TypeError, "size must be an integer, got '64'"),
    (dict(seed=-1), ValueError, 'seed must be at least 0, got -1'),
    (dict(hardness=0), ValueError, 'hardness must be a positive .* got 0'),
    (dict(hardness=float('nan')), ValueError, 'hardness .* got nan'),
    (dict(hardness='hard'), TypeError, "hardness .* got 'hard'"),
    (dict(workers=0), ValueError, 'workers must be at least 1, got 0'),
])
def test_bad_parameters(tmp_path, change, error, message):
    with pytest.raises(error, match=message):
        write(tmp_path / 'digits', **change)
    assert not list(tmp_path.iterdir())


def test_command_makes_and_reuses(tmp_path, capsys):
    root = tmp_path / 'digits'
    command = [str(root), '--train', '0', '--val', '10', '--test', '0']
    command += ['--size', '48', '--seed', '2', '--hardness', '0.5']
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert out == f'{root}: made\n' and '10 of 10 (100 %)' in err
    info = json.loads((root / 'dataset.json').read_text())
    assert info['parameters'] == dict(
        counts=dict(train=0, val=10, test=0), size=48, seed=2, hardness=0.5)
    assert main(command) == 0
    assert 'already there, reused' in capsys.readouterr().out


@pytest.mark.parametrize('option, message', [
    (['--train', '-5'], 'error: the number of train images must be'),
    (['--size', '8'], 'error: size must be at least 32, got 8'),
    (['--hardness', '-1'], 'error: hardness must be a positive number'),
])
def test_command_reports_bad_input(tmp_path, capsys, option, message):
    assert main([str(tmp_path / 'digits'), *option]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_command_says_how_to_go_on(tmp_path, capsys, monkeypatch):

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(ImageFolder, 'write_item', interrupt)
    assert main([str(tmp_path / 'digits'), '--workers', '1']) == 130
    assert 'run the same command again' in capsys.readouterr().err
