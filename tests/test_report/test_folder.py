# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The report's folder: replaced whole, never another one, nothing left."""
import errno
import fcntl
import multiprocessing
import os
import signal

import pytest

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
    # A name that a pattern would read as another one.
    folder = tmp_path / 'report[1]'
    write(folder, 'old')
    other = FORK.Process(target=killed_while_writing, args=(folder, ))
    other.start()
    other.join()
    assert other.exitcode == -signal.SIGKILL
    assert len(names(tmp_path)) == 2
    (tmp_path / '.report[1].notours').mkdir()
    (tmp_path / '.report[1].12345678').mkdir()
    (tmp_path / '.report[1].12345678/thesis.txt').write_text('years')
    write(folder)
    assert (folder / 'index.html').read_text() == 'whole'
    assert names(tmp_path) == [
        '.report[1].12345678', '.report[1].notours', 'report[1]'
    ]


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


def test_nothing_is_removed_on_disks_without_locks(tmp_path, monkeypatch):
    work = tmp_path / '.report.abcdefgh'
    write(work / 'new')
    (work / 'lock').touch()

    def no_locks(*args):
        raise OSError(errno.ENOLCK, 'no locks')

    monkeypatch.setattr(fcntl, 'flock', no_locks)
    write(tmp_path / 'report')
    assert names(tmp_path) == ['.report.abcdefgh', 'report']


def test_a_report_that_had_been_taken_away_comes_back(tmp_path):
    folder = tmp_path / 'report'
    work = tmp_path / '.report.abcdefgh'
    write(work / 'old', 'old')
    (work / 'lock').touch()
    with pytest.raises(OSError, match='disk'):
        with replacing_report(folder):
            raise OSError('disk')
    assert (folder / 'index.html').read_text() == 'old'
    assert names(tmp_path) == ['report']


def test_folders_without_a_lock_are_left_for_a_day(tmp_path):
    folder, work = tmp_path / 'report', tmp_path / '.report.abcdefgh'
    write(work / 'new')
    write(folder)
    assert work.is_dir()
    os.utime(work, (0, 0))
    write(folder)
    assert names(tmp_path) == ['report']


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
