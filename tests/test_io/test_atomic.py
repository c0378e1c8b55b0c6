# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Unfinished files of runs that were killed."""
import multiprocessing
import os
import signal
import tempfile

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
        assert os.path.exists(temporary)
    assert names(tmp_path) == ['other.txt', 'x']


@pytest.mark.parametrize('writer, maker', [(atomic_file, 'mkstemp'),
                                           (atomic_folder, 'mkdtemp')])
def test_what_another_writer_took_for_a_leftover_is_made_again(
        tmp_path, monkeypatch, writer, maker):
    make, made = getattr(tempfile, maker), []

    def make_and_lose(**kwargs):
        made.append(make(**kwargs))
        if len(made) == 1:
            remove_leftovers(tmp_path)
        return made[-1]

    monkeypatch.setattr(tempfile, maker, make_and_lose)
    with writer(tmp_path / 'x') as temporary:
        assert os.path.exists(temporary)
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
