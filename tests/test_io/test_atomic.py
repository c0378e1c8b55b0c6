# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Unfinished files of runs that were killed."""
import multiprocessing
import os
import signal
import tempfile
from pathlib import Path

import pytest

from mmdynperceiver.io.atomic import (PREFIX, atomic_file, atomic_folder,
                                      remove_leftovers, write_text)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write_until_killed(path, writer):
    with writer(path):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize('writer', [atomic_file, atomic_folder])
def test_the_next_run_removes_what_a_killed_one_left(tmp_path, writer):
    process = multiprocessing.get_context('fork').Process(
        target=write_until_killed, args=(tmp_path / 'x', writer))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    left, = names(tmp_path)
    assert left.startswith(PREFIX)
    write_text(tmp_path / 'other.txt', 'text')
    assert names(tmp_path) == ['other.txt']


@pytest.mark.parametrize('writer', [atomic_file, atomic_folder])
def test_what_is_being_written_stays(tmp_path, writer):
    with writer(tmp_path / 'x') as temporary:
        write_text(tmp_path / 'other.txt', 'text')
        Path(temporary).touch()
    assert names(tmp_path) == ['other.txt', 'x']


@pytest.mark.parametrize('writer', [atomic_file, atomic_folder])
def test_what_another_writer_took_for_a_leftover_is_made_again(
        tmp_path, monkeypatch, writer):
    make, made = tempfile.mkdtemp, []

    def make_and_lose(**kwargs):
        made.append(make(**kwargs))
        if len(made) == 1:
            remove_leftovers(tmp_path)
        return made[-1]

    monkeypatch.setattr(tempfile, 'mkdtemp', make_and_lose)
    with writer(tmp_path / 'x') as temporary:
        Path(temporary).touch()
    assert len(made) == 2 and names(tmp_path) == ['x']


def test_files_of_others_stay(tmp_path):
    kept = [
        'tmpabcd1234.tmp', f'{PREFIX}notes.txt', 'epoch_1.pth.tmp',
        f'{PREFIX}link.tmp'
    ]
    for name in kept[:3]:
        (tmp_path / name).write_text('text')
    (tmp_path / kept[3]).symlink_to(tmp_path / kept[0])
    for name in kept[:3]:
        os.utime(tmp_path / name, (1, 1))
    remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted(kept)
    remove_leftovers(tmp_path / 'nowhere')


def test_permissions_are_those_of_other_files(tmp_path):
    (tmp_path / 'plain').write_text('text')
    (tmp_path / 'folder').mkdir()
    write_text(tmp_path / 'x', 'text')
    with atomic_folder(tmp_path / 'y') as temporary:
        write_text(os.path.join(temporary, 'x'), 'text')
    for name, other in (('x', 'plain'), ('y', 'folder'), ('y/x', 'plain')):
        assert (tmp_path / name).stat().st_mode == (tmp_path /
                                                    other).stat().st_mode


def test_what_was_there_stays_if_writing_fails(tmp_path):
    write_text(tmp_path / 'x', 'old')
    with pytest.raises(ZeroDivisionError), atomic_file(tmp_path / 'x') as name:
        write_text(name, 'new')
        1 / 0
    assert names(tmp_path) == ['x'] and (tmp_path / 'x').read_text() == 'old'
