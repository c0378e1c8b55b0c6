# Copyright (c) mmdynperceiver contributors. All rights reserved.
import os

import pytest

from mmdynperceiver.datasets.image_files import (VIDEOS, find_files,
                                                 list_files, list_images)


def test_links_are_followed_and_hidden_files_left_out(make_files):
    root = make_files({
        'real/ant/a.png': '',
        'real/ant/b.TIF': '',
        'real/ant/._a.png': '',
        'real/.thumbnails/a.png': '',
        'real/ant/notes.txt': '',
        'linked/c.jpg': '',
    })
    os.symlink(root / 'real/ant', root / 'linked/ant')
    os.symlink(root / 'real/ant/a.png', root / 'linked/d.png')
    # To a folder that it is in, to itself, and to one beside it and back.
    os.symlink(root, root / 'linked/loop')
    os.symlink('self', root / 'linked/self')
    os.symlink(root / 'linked', root / 'real/back')
    found = [os.path.relpath(path, root) for path in list_images(root)]
    assert found == sorted([
        'linked/ant/a.png', 'linked/ant/b.TIF', 'linked/c.jpg', 'linked/d.png',
        'real/ant/a.png', 'real/ant/b.TIF', 'real/back/ant/a.png',
        'real/back/ant/b.TIF', 'real/back/c.jpg', 'real/back/d.png'
    ])
    assert list_files(root / 'real/ant',
                      ('.txt', )) == [str(root / 'real/ant/notes.txt')]


def test_no_images(tmp_path):
    (tmp_path / '.a.png').write_text('')
    with pytest.raises(FileNotFoundError, match='no image in .*webp'):
        list_images(tmp_path)


def test_images_of_other_formats_are_named(make_files):
    root = make_files({'a/x.HEIC': '', 'a/b/y.jfif': '', 'a/z.txt': ''})
    found, broken = find_files([str(root)])
    assert found == [str(root / 'a/b/y.jfif')]
    path = str(root / 'a/x.HEIC')
    assert broken == [
        (path,
         f'cannot read the image {path!r}: files that end with .heic are '
         f'not read: make it a JPEG or PNG')
    ]
    with pytest.raises(ValueError, match='x.HEIC.*make it a JPEG'):
        find_files([str(root)], on_broken='raise')
    (root / 'a/b/y.jfif').unlink()
    with pytest.raises(FileNotFoundError, match='x.HEIC.*make it a JPEG'):
        list_images(root)
    # Of videos it says nothing.
    with pytest.raises(FileNotFoundError) as error:
        list_images(root, VIDEOS)
    assert 'HEIC' not in str(error.value)


def test_a_folder_that_cannot_be_read_hides_no_other(make_files, monkeypatch):
    root = make_files({'a.png': '', 'closed/b.png': '', 'open/c.png': ''})
    scan = os.scandir

    def refuse(path):
        if os.path.basename(path) == 'closed':
            raise PermissionError(13, 'Permission denied', path)
        return scan(path)

    monkeypatch.setattr(os, 'scandir', refuse)
    found, broken = find_files([str(root)])
    assert found == [str(root / 'a.png'), str(root / 'open/c.png')]
    assert [entry.path for entry in broken] == [str(root / 'closed')]
    assert 'Permission denied' in broken[0].reason
    for paths in ([str(root)], [str(root / 'closed')]):
        with pytest.raises(PermissionError):
            find_files(paths, on_broken='raise')
    assert len(find_files([str(root / 'closed')])[1]) == 1
