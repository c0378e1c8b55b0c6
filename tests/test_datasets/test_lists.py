# Copyright (c) mmdynperceiver contributors. All rights reserved.
import os

import pytest

from mmdynperceiver.datasets.lists import (as_utf8, local_separators,
                                           read_classes, read_lines, read_list,
                                           split_label, write_list)
from mmdynperceiver.errors import InputError

LATIN = b'caf\xe9.png'


@pytest.mark.parametrize('content', [
    b'a.png\nb c.png\n',
    b'a.png\r\nb c.png\r\n',
    b'a.png\rb c.png',
    b'\xef\xbb\xbfa.png\nb c.png',
    b'\n a.png'.replace(b' ', b'') + b'\n\t\n  \nb c.png\n\n\n',
    b'a.png\t\nb c.png\t\t\n',
    b'a.png\r\n"b c.png"\r\n',
    b'\xef\xbb\xbfa.png\n\xef\xbb\xbfb c.png\n',
])
def test_as_editors_and_spreadsheets_write(tmp_path, content):
    (tmp_path / 'list.txt').write_bytes(content)
    assert read_list(tmp_path / 'list.txt') == ['a.png', 'b c.png']
    assert read_classes(tmp_path / 'list.txt') == ['a.png', 'b c.png']


def test_lines_keep_their_numbers(tmp_path):
    (tmp_path / 'list.txt').write_bytes(b'\xef\xbb\xbf\r\none\r\n\r\ntwo')
    assert read_lines(tmp_path / 'list.txt') == [(2, 'one'), (4, 'two')]


def test_bytes_that_are_not_utf8_stay(tmp_path):
    path = tmp_path / 'list.txt'
    path.write_bytes(LATIN + b'\n')
    name, = read_list(path)
    assert os.fsencode(name) == LATIN and as_utf8(name) == r'caf\xe9.png'
    write_list(path, [name, 'ü.png'])
    assert path.read_bytes() == LATIN + b'\n' + 'ü.png\n'.encode()


def test_list_files(tmp_path):
    path = tmp_path / 'new' / 'list.txt'
    write_list(path, ['a b/ü.png', 'c.png'])
    assert read_list(path) == ['a b/ü.png', 'c.png']
    with pytest.raises(InputError, match=r"'a\\nb.png'.* end of line"):
        write_list(path, ['c.png', 'a\nb.png'])
    assert len(read_list(path)) == 2


@pytest.mark.parametrize('read', [read_list, read_classes])
def test_files_that_are_no_lists(tmp_path, read):
    (tmp_path / 'empty.txt').write_bytes(b'\xef\xbb\xbf\n\n')
    with pytest.raises(InputError, match='empty.txt.* is empty'):
        read(tmp_path / 'empty.txt')
    (tmp_path / 'wide.txt').write_text('a.png', encoding='utf-16')
    with pytest.raises(InputError, match='wide.txt.* not text in UTF-8'):
        read(tmp_path / 'wide.txt')
    with pytest.raises(InputError, match='nowhere.*No such file'):
        read(tmp_path / 'nowhere')
    with pytest.raises(InputError, match='Is a directory'):
        read(tmp_path)


@pytest.mark.parametrize('line, expected', [
    ('a.png 3', ('a.png', 3)),
    ('a b.png\t3 ', ('a b.png', 3)),
    ('a.png \t 12', ('a.png', 12)),
    ('a.png -1', ('a.png', -1)),
    ('"a, ""b"".png"\t3', ('a, "b".png', 3)),
    ('a.png', None),
    ('a.png,3', None),
    ('a.png 3.0', None),
    ('a.png 1_0', None),
    ('a.png 3 4', None),
    ('a.png ' + '9' * 5000, None),
])
def test_labels(line, expected):
    assert split_label(line) == expected


def test_backslashes_of_windows(tmp_path):
    (tmp_path / r'own\name.png').write_text('')
    assert local_separators(r'ant\0.png', str(tmp_path)) == 'ant/0.png'
    assert local_separators(r'own\name.png', str(tmp_path)) == r'own\name.png'
