# Copyright (c) mmdynperceiver contributors. All rights reserved.
import shutil

import pytest
from tiny import run_tool


@pytest.fixture
def root(frame_folders, tmp_path):
    """A data set of three classes as the checker expects it."""
    shutil.copytree(frame_folders, tmp_path / 'rawframes')
    lines = (frame_folders / 'list.txt').read_text().splitlines(True)
    write(tmp_path, train=lines[:3], val=lines[3:])
    (tmp_path / 'labels.txt').write_text('Down\nLeft to right\nRight\n')
    return tmp_path


def write(root, **lists):
    for name, lines in lists.items():
        (root / f'sthv1_{name}_list_rawframes.txt').write_text(''.join(lines))


def check(root, *options):
    """Run the checker; gives its error line."""
    return run_tool('dataset_checkers/check_sthv1', root, '--num-classes', 3,
                    *options)


def test_nothing_wrong(root, capsys):
    assert check(root) is None
    output = capsys.readouterr().out
    assert '6 videos of 10 to 10 frames, 10.0 on average' in output
    assert 'nothing wrong was found' in output


def remove_frame(root):
    (root / 'rawframes/1/00004.jpg').unlink()


def empty_frame(root):
    (root / 'rawframes/1/00004.jpg').write_bytes(b'')


def remove_folder(root):
    shutil.rmtree(root / 'rawframes/1')


def rename_frames(root):
    for path in (root / 'rawframes/1').iterdir():
        path.rename(path.with_name(f'img_{path.name}'))


def count_from_zero(root):
    shutil.copy(root / 'rawframes/1/00001.jpg', root / 'rawframes/1/00000.jpg')


def short_count(root):
    write(root, train=['0 10 0\n', '1 5 1\n', '2 10 2\n'])


def corrupt_frame(root):
    (root / 'rawframes/1/00006.jpg').write_bytes(b'no image')


def labels_from_one(root):
    write(root, train=['0 10 1\n', '1 10 2\n', '2 10 3\n'])


def listed_twice(root):
    write(root, val=['0 10 0\n', '4 10 1\n', '5 10 2\n'])


def bad_line(root):
    write(root, val=['3 10 0\n', '4 10 1\n', '5 10 2\n', '5 10\n'])


def endless_count(root):
    write(root, val=['3 10 0\n', '4 10 1\n', '5 10 2\n', '5 999999999999 1\n'])


@pytest.mark.parametrize('spoil, message', [
    (remove_frame, '1 folders with missing or empty frames\n    1: 1 of 10'),
    (empty_frame, 'missing or empty frames\n    1: 1 of 10, the first: 00004'),
    (remove_folder, '1 folders that are missing\n    1'),
    (rename_frames, 'no frame has the expected name: set --filename-tmpl, and '
     'filename_tmpl in the config\n    1: img_00001.jpg, expected 00001.jpg'),
    (count_from_zero, 'begin before number 1: set --start-index'),
    (short_count, 'more frames than the list says'),
    (corrupt_frame, 'cannot be decoded\n    1/00006.jpg'),
    (labels_from_one, 'labels outside of 0 to 2: labels count from 0\n'
     '    2: 3'),
    (labels_from_one, 'classes without a video in the train list'),
    (listed_twice, 'listed twice\n    0 (train, val)'),
    (bad_line, "line 4: '5 10'"),
    (endless_count, "line 4: '5 999999999999 1'"),
])
def test_findings(root, capsys, spoil, message):
    spoil(root)
    error = check(root)
    assert 'kinds of faults were found' in error
    assert message in capsys.readouterr().out


def test_labels_of_the_data_sets_own_files(root, capsys):
    rows = [
        f'{k};{name}\n' for k, name in enumerate(
            ['Down', 'Left to right', 'Right', 'Down', 'Right'])
    ]
    (root / 'own.csv').write_text(''.join(rows))
    options = ('--labels', root / 'labels.txt', '--annotations',
               root / 'own.csv')
    assert check(root, *options) is not None
    output = capsys.readouterr().out
    assert "files\n    4: 1, its class is 'Right'" in output
    assert "1 videos that are not in the data set's own files\n    5" in output
    assert '1: Left to right' in output  # a class that a mirror changes


@pytest.mark.parametrize('options, message', [
    (('--train', 'none.txt'), 'no train list'),
    (('--frames', 'none'), 'no folder of frames'),
    (('--annotations', 'own.csv'), '--annotations needs --labels'),
    (('--workers', 0), '--workers must be at least 1, got 0'),
    (('--filename-tmpl', '{'), "--filename-tmpl '{': Single '{'"),
    (('--filename-tmpl', '{}{}'), "--filename-tmpl '{}{}': Replacement"),
    (('--labels', 'none.txt'), 'cannot read the file of class names'),
])
def test_refuses(root, options, message):
    assert message in check(root, *options)
