# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The report's folder: replaced whole, never another one, nothing left."""
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from mmdynperceiver.io.atomic import PREFIX
from mmdynperceiver.report import check_report_folder, replacing_report

FORK = multiprocessing.get_context('fork')


def killed_while_writing(folder, started=None, go_on=None):
    """A process that begins a report and is killed before it is done."""
    with replacing_report(folder) as place:
        (place / 'index.html').write_text('half')
        if started is not None:
            started.put(str(place))
            go_on.wait(60)
        os.kill(os.getpid(), signal.SIGKILL)


def write(folder, text='whole'):
    with replacing_report(folder) as place:
        (place / 'index.html').write_text(text)


def names(path):
    return sorted(child.name for child in path.iterdir())


def test_whole_or_not_at_all(tmp_path):
    folder = tmp_path / 'deep/report'
    write(folder)
    assert (folder / 'index.html').read_text() == 'whole'
    assert folder.stat().st_mode & 0o777 == 0o777 & ~_umask()
    with pytest.raises(OSError, match='disk'):
        with replacing_report(folder) as place:
            (place / 'index.html').write_text('half')
            raise OSError('disk')
    assert (folder / 'index.html').read_text() == 'whole'
    write(folder, 'new')
    assert (folder / 'index.html').read_text() == 'new'
    assert names(folder.parent) == ['report']


def _umask():
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_leftovers_of_a_killed_run_are_removed(tmp_path):
    folder = tmp_path / 'report'
    write(folder, 'old')
    (tmp_path / f'{PREFIX}thesis').mkdir()
    other = FORK.Process(target=killed_while_writing, args=(folder, ))
    other.start()
    other.join()
    assert other.exitcode == -signal.SIGKILL
    assert len(names(tmp_path)) == 3
    write(folder)
    assert (folder / 'index.html').read_text() == 'whole'
    assert names(tmp_path) == [f'{PREFIX}thesis', 'report']


def test_a_run_that_still_writes_keeps_its_folder(tmp_path):
    folder = tmp_path / 'report'
    started, go_on = FORK.SimpleQueue(), FORK.Event()
    other = FORK.Process(
        target=killed_while_writing, args=(folder, started, go_on))
    other.start()
    place = started.get()
    write(folder)
    assert os.path.isfile(os.path.join(place, 'index.html'))
    go_on.set()
    other.join()
    write(folder)
    assert names(tmp_path) == ['report']


@pytest.mark.parametrize('step', [1, 2, 3])
def test_killed_while_the_older_report_makes_way(tmp_path, step):
    """Before, between and after the two renames a whole report is there."""
    folder = tmp_path / 'report'
    write(folder, 'old')
    other = FORK.Process(target=killed_at_a_rename, args=(folder, step))
    other.start()
    other.join()
    assert other.exitcode == -signal.SIGKILL
    with pytest.raises(OSError, match='disk'):
        with replacing_report(folder):
            raise OSError('disk')
    text = (folder / 'index.html').read_text()
    assert text == ('new' if step == 3 else 'old')
    write(folder)
    assert names(tmp_path) == ['report']


def killed_at_a_rename(folder, step):
    """A process that is killed before its rename of this number."""
    rename, calls = Path.rename, []

    def count(self, target):
        calls.append(target)
        if len(calls) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(self, target)

    Path.rename = count
    write(folder, 'new')
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_takes_the_place_meanwhile_stays(tmp_path):
    folder = tmp_path / 'report'
    with pytest.raises(FileExistsError, match='holds other files'):
        with replacing_report(folder):
            folder.mkdir()
            (folder / 'thesis.txt').write_text('years')
    assert names(folder) == ['thesis.txt'] and names(tmp_path) == ['report']


def test_other_folders_are_refused(tmp_path):
    folder = tmp_path / 'mine'
    folder.mkdir()
    (folder / 'thesis.txt').write_text('years')
    with pytest.raises(FileExistsError, match='holds other files'):
        write(folder)
    with pytest.raises(FileExistsError, match='a file or a link'):
        write(folder / 'thesis.txt')
    (tmp_path / 'link').symlink_to(folder)
    with pytest.raises(FileExistsError, match='a file or a link'):
        check_report_folder(tmp_path / 'link')
    assert (folder / 'thesis.txt').read_text() == 'years'
    (tmp_path / 'empty').mkdir()
    write(tmp_path / 'empty')
    assert names(tmp_path) == ['empty', 'link', 'mine']
