# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Images are found, checked and split before anything is trained."""
import shutil
from collections import Counter

import pytest
from PIL import Image

from mmdynperceiver.errors import InputError
from mmdynperceiver.fitting.data import (Labelled, check_images, find_images,
                                         loose_images, split_images)
from mmdynperceiver.fitting.run import say_what_was_found


def split(folder, seed=0):
    return split_images(check_images(find_images(str(folder))).images, seed)


def paths(images):
    return {image.path for image in images}


def as_splits(folder, root, *names):
    """The images of class folders, some to each split in turn."""
    for number, path in enumerate(sorted(folder.glob('*/*'))):
        target = root / names[number % len(names)] / path.parent.name
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return root


def test_class_folders_are_split_by_class(folder):
    parts = split(folder)
    assert {
        name: len(images)
        for name, images in parts.items()
    } == dict(
        train=50, val=11, test=11)
    for images in parts.values():
        assert len(Counter(image.label for image in images)) == 3
    assert not paths(parts['train']) & paths(parts['val'])
    assert not paths(parts['test']) & (
        paths(parts['train'])
        | paths(parts['val']))
    assert split(folder) == parts
    assert paths(split(folder, seed=1)['val']) != paths(parts['val'])


def test_a_moved_folder_is_split_alike(folder, tmp_path):
    before = split(folder)['val']
    shutil.move(folder, tmp_path / 'moved')
    names = {
        path.split('/')[-2:][0] + path.split('/')[-1]
        for path in paths(split(tmp_path / 'moved')['val'])
    }
    assert names == {
        path.split('/')[-2] + path.split('/')[-1]
        for path in paths(before)
    }


def test_given_splits_stay(folder, tmp_path):
    root = as_splits(folder, tmp_path / 'x', 'train', 'val', 'test')
    parts = split(root)
    assert all(f'/{name}/' in path for name, images in parts.items()
               for path in paths(images))
    # Without a test split, what validates elsewhere tests.
    root = as_splits(folder, tmp_path / 'y', 'Training', 'valid')
    parts = split(root)
    assert len(parts['test']) == 36 and len(parts['val']) == 11
    assert all('/valid/' in path for path in paths(parts['test']))
    assert all('/Training/' in path for path in paths(parts['val']))


def test_a_csv_file(folder, tmp_path):
    rows = [
        f'{path.relative_to(tmp_path)},{path.parent.name}'
        for path in sorted(folder.glob('*/*'))
    ]
    table = tmp_path / 'table.csv'
    table.write_text('\ufefffilename,class\r\n' + '\r\n'.join(rows))
    assert split(table) == split(folder)
    table.write_text('\n'.join(rows))
    assert split(table) == split(folder)
    table.write_text('path,label,split\n' +
                     '\n'.join(f'{row},{"test" if number % 2 else "train"}'
                               for number, row in enumerate(rows)))
    assert len(split(table)['test']) == 36


@pytest.mark.parametrize('text, message', [
    ('a.png,ant\nb.png', 'line 2 .* must hold a path and a label'),
    ('a.png,ant,later', "line 1 .* got 'a.png,ant,later'"),
    ('a.png,ant,train\nb.png,bee,', 'must give a split to each image'),
    ('', 'no images'),
])
def test_a_csv_file_that_does_not_fit(tmp_path, text, message):
    (tmp_path / 'a.csv').write_text(text)
    with pytest.raises(InputError, match=message):
        find_images(str(tmp_path / 'a.csv'))


def test_broken_and_duplicate_images_are_left_out(folder):
    (folder / 'ant/0.png').write_bytes(b'no image')
    shutil.copy(folder / 'ant/1.png', folder / 'ant/copy.png')
    shutil.copy(folder / 'bee/1.png', folder / 'cow/copy.png')
    found = check_images(find_images(str(folder)))
    assert [entry.path
            for entry in found.broken] == [str(folder / 'ant/0.png')]
    assert found.twice == [str(folder / 'ant/copy.png')]
    assert sorted(found.contradictory) == [
        str(folder / 'bee/1.png'),
        str(folder / 'cow/copy.png')
    ]
    assert len(found.images) == 70
    assert found.side == 32


def test_nothing_is_left_out_in_silence(folder, capsys):
    (folder / 'ant/0.png').rename(folder / 'ant/0.heic')
    shutil.copy(folder / 'ant/1.png', folder / 'loose.png')
    (folder / 'notes.txt').write_text('')
    found = check_images(find_images(str(folder)))
    assert [entry.path
            for entry in found.broken] == [str(folder / 'ant/0.heic')]
    assert len(found.images) == 71
    loose = loose_images(str(folder))
    assert loose == [str(folder / 'loose.png')]
    say_what_was_found(found, loose)
    out, err = capsys.readouterr()
    shown = ' '.join((out + err).split())
    assert '.heic are not read' in shown
    assert 'lie beside the class folders' in shown


def test_a_class_without_images_is_no_class_left_out(folder):
    for path in (folder / 'bee').glob('*'):
        path.rename(path.with_suffix('.heic'))
    with pytest.raises(InputError, match="decoded: 'bee'; the first:.*JPEG"):
        check_images(find_images(str(folder)))
    for path in (folder / 'bee').glob('*'):
        path.unlink()
    with pytest.raises(InputError, match='hold no image: .*bee.*add some'):
        find_images(str(folder))


def test_what_tests_is_not_trained_on(folder, tmp_path):
    root = as_splits(folder, tmp_path / 'x', 'train', 'test')
    path = next((root / 'test/ant').glob('*.png'))
    shutil.copy(path, root / 'train/ant/again.png')
    found = check_images(find_images(str(root)))
    assert found.twice == [str(root / 'train/ant/again.png')]
    assert str(path) in paths(found.images)


def test_one_class_is_none(folder):
    shutil.rmtree(folder / 'ant')
    shutil.rmtree(folder / 'bee')
    with pytest.raises(InputError, match="of class 'cow'.*two classes"):
        split(folder)


def test_ten_images_are_too_few(folder):
    for path in sorted(folder.glob('*/*')):
        if int(path.stem) > 3:
            path.unlink()
    with pytest.raises(InputError, match='12 images leave 3.*about 67'):
        split(folder)


def test_a_class_of_one_image(folder):
    for path in sorted((folder / 'bee').glob('*'))[1:]:
        path.unlink()
    with pytest.raises(InputError, match="fewer than 3 .*: 'bee'"):
        split(folder)


def test_splits_of_different_classes(folder, tmp_path):
    root = as_splits(folder, tmp_path / 'x', 'train', 'val')
    (root / 'val/bee').rename(root / 'val/wasp')
    with pytest.raises(InputError, match="in val and not in train: 'wasp'"):
        split(root)
    shutil.rmtree(root / 'val/wasp')
    with pytest.raises(InputError, match="in train and not in val: 'bee'"):
        split(root)


def test_no_image_at_all(tmp_path):
    with pytest.raises(InputError, match='no folder or CSV file'):
        find_images(str(tmp_path / 'nothing'))
    (tmp_path / 'a').mkdir()
    with pytest.raises(InputError, match='no images in'):
        find_images(str(tmp_path))
    (tmp_path / 'a/a.png').write_bytes(b'')
    with pytest.raises(InputError, match='none of the 1 images'):
        check_images(find_images(str(tmp_path)))


def test_an_image_larger_than_wide(tmp_path):
    Image.new('RGB', (20, 50)).save(tmp_path / 'a.png')
    image = Labelled(str(tmp_path / 'a.png'), 'a')
    assert check_images([image]).side == 20
