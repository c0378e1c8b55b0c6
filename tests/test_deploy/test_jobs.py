# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Jobs over many images: killed, begun again, refused."""
import csv
import os
import signal

import numpy as np
import pytest

from mmdynperceiver.datasets.image_files import find_files
from mmdynperceiver.deploy import Policy, Runner, jobs

pytest.importorskip('pyarrow', reason='the extra "parquet" is not installed')
NAMES = ('ant', 'bee', 'cow', 'dog', 'elk')


@pytest.fixture
def runner(resnet, many_photos):
    """A runner under whose thresholds images leave at several exits."""
    runner = Runner.load(resnet.folder, threads=1)
    batch = runner.preprocessing.batch(many_photos[:20])
    tops = [np.exp(x - x.max(1, keepdims=True)) for x in runner.all_exits(
        batch)]  # yapf: disable
    tops = [x.max(1) / x.sum(1) for x in tops]
    runner.policy = Policy(4, [np.sort(x)[10:12].mean() for x in tops[:3]])
    return runner


@pytest.fixture(scope='module')
def many_photos(tmp_path_factory):
    """Image files, of which two are broken and some come again."""
    from PIL import Image
    folder, rng = tmp_path_factory.mktemp('many'), np.random.default_rng(3)
    paths = []
    for number in range(20):
        path = folder / f'{number:02}.png'
        pixels = rng.integers(0, 255, (6, 5, 3)).repeat(10, 0).repeat(10, 1)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        paths.append(str(path))
    broken = folder / 'broken.png'
    broken.write_bytes(b'broken')
    return [*paths, str(broken), *paths[:9], str(broken)]


def rows_of(folder):
    """All rows of a job's parts, as any reader finds them."""
    import pyarrow.parquet
    return pyarrow.parquet.read_table(folder / 'parts').to_pylist()


def check(folder, paths, runner):
    """Each image has one row, which says what the runner says."""
    rows = rows_of(folder)
    assert [(row['index'], row['path'])
            for row in rows] == list(enumerate(paths))
    good = [path for path in paths if 'broken' not in path]
    expected = iter(runner(good))
    for row in rows:
        assert (row['error'] is None) == ('broken' not in row['path'])
        if row['error'] is None:
            want = next(expected)
            assert row['label'] == want.label and row['macs'] == want.macs
            assert row['exit_index'] == want.exit_index
            assert row['name'] == NAMES[want.label]
            assert row['score'] == pytest.approx(want.score, abs=1e-4)
    with open(folder / 'broken.csv', newline='') as file:
        named = list(csv.DictReader(file))
    assert [row['path']
            for row in named] == [path for path in paths if 'broken' in path]
    assert all('cannot read' in row['error'] for row in named)
    assert sorted(os.listdir(folder)) == ['broken.csv', 'job.json', 'parts']


def in_child(work):
    """Run something in a process of its own; how it ended."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1]


@pytest.mark.parametrize('streams', [1, 2])
def test_a_killed_job_goes_on(resnet, runner, many_photos, tmp_path,
                              monkeypatch, streams):
    policy = runner.policy
    if streams > 1:
        runner = Runner.load(resnet.folder, streams=streams)
        runner.policy = policy
    folder = tmp_path / 'job'

    def start(kill_at=None):
        """Run until a part is half written, which that kills."""

        def write(table, path):
            nonlocal kill_at
            with open(path, 'wb') as file:
                file.write(b'PAR1half')
            if kill_at == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            kill_at -= 1
            known(table, path)

        import pyarrow.parquet
        known = pyarrow.parquet.write_table
        with jobs.open_job(str(folder), many_photos, runner, NAMES,
                           4) as job, monkeypatch.context() as patch:
            todo = job.todo()
            if kill_at is not None:
                patch.setattr(pyarrow.parquet, 'write_table', write)
            jobs.run_job(job, runner, 3)
            return todo, job.finish()

    for kill_at in (0, 2, 1):
        status = in_child(lambda: start(kill_at))
        assert os.WTERMSIG(status) == signal.SIGKILL
    todo, summary = start()
    assert todo == [3, 4, 5, 6, 7]
    check(folder, many_photos, runner)
    assert summary.broken == 2 and sum(summary.exits.values()) == 29
    assert len(summary.exits) > 1
    known = {path: path.stat().st_mtime_ns
             for path in (folder / 'parts').iterdir()}  # yapf: disable
    assert start()[0] == []
    assert known == {path: path.stat().st_mtime_ns for path in known}


def test_refuses_what_is_another_job(runner, many_photos, tmp_path):
    folder, paths = tmp_path / 'job', many_photos[:8]

    def start(paths=paths, size=4, names=NAMES):
        with jobs.open_job(str(folder), paths, runner, names, size) as job:
            jobs.run_job(job, runner, 4)
            return job.finish()

    start()
    for change, message in ((dict(paths=paths[:7]), 'images is 8.*has 7'),
                            (dict(paths=paths[::-1]), 'images_sha256'),
                            (dict(size=5), 'part_size is 4'),
                            (dict(names='abcde'), 'names_sha256')):
        with pytest.raises(ValueError, match=f'another job: its {message}'):
            start(**change)
    policy, runner.policy = runner.policy, Policy(4, (0, 0, 0))
    with pytest.raises(ValueError, match='its policy is'):
        start()
    runner.policy = policy
    part = folder / 'parts/000001.parquet'
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(ValueError, match='000001.*remove it and run'):
        start()
    part.unlink()
    assert start().broken == 0
    os.replace(folder / 'parts/000000.parquet', part)
    os.link(part, folder / 'parts/000000.parquet')
    with pytest.raises(ValueError, match='000001.*other images'):
        start()
    (folder / 'job.json').write_text('{}')
    with pytest.raises(ValueError, match='does not describe a job'):
        start()
    (folder / 'job.json').unlink()
    with pytest.raises(FileExistsError, match='something at'):
        start()


def test_one_process_at_a_time(runner, many_photos, tmp_path):

    def start():
        with jobs.open_job(str(tmp_path), many_photos, runner, NAMES, 4):
            pass

    def other():
        try:
            start()
        except ValueError as error:
            os._exit(7 if 'another process works' in str(error) else 1)

    with jobs.open_job(str(tmp_path), many_photos, runner, NAMES, 4):
        assert os.waitstatus_to_exitcode(in_child(other)) == 7
    start()


def test_lists_name_files_from_their_folder(tmp_path):
    (tmp_path / 'list.txt').write_text('a.png\n\n  b c/d.png\n/e.png\n')
    found, broken = find_files(['x.png', f'@{tmp_path}/list.txt'])
    assert found == [
        'x.png', f'{tmp_path}/a.png', f'{tmp_path}/b c/d.png', '/e.png'
    ]
    assert not broken
    (tmp_path / 'none.txt').write_text('\n')
    with pytest.raises(ValueError, match='names no file'):
        find_files([f'@{tmp_path}/none.txt'])
    with pytest.raises(FileNotFoundError):
        find_files([f'@{tmp_path}/missing.txt'])
