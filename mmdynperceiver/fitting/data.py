# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Which images there are, what is wrong with them, and their splits."""
import csv
import os
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from PIL import Image

from ..datasets.checked_files import image_fault
from ..datasets.hold_out import choose_hold_out
from ..datasets.image_files import (EXTENSIONS, UNREAD_EXTENSIONS, Broken,
                                    ending_fault, list_files)
from ..datasets.lists import write_list
from ..errors import InputError, first_few
from ..io.checksums import file_sha256
from ..progress import track

__all__ = [
    'Checked', 'Labelled', 'check_images', 'find_images', 'loose_images',
    'split_images'
]

SPLITS = ('train', 'val', 'test')
# What people call them.
SPLIT_NAMES = dict(
    train='train',
    training='train',
    val='val',
    valid='val',
    validation='val',
    test='test',
    testing='test')
PATH_COLUMNS = ('path', 'file', 'filename', 'image', 'image_path', 'img')
LABEL_COLUMNS = ('label', 'class', 'class_name', 'category', 'target')
# Share of the images that thresholds are solved on, and that test.
HELD_OUT = 0.15
# One of each class to train on, to solve thresholds on, and to test.
LEAST_OF_CLASS = 3
# Thresholds of fewer held-out images would be chance.
LEAST_HELD_OUT = 10


class Labelled(NamedTuple):
    """An image file, with its class and, if it is given, its split."""

    path: str
    label: str
    split: str = ''


class Checked(NamedTuple):
    """What a look at all files has found.

    Args:
        images (list[Labelled]): Those that can be used.
        broken (list[Broken]): Files that cannot be decoded.
        twice (list[str]): Files whose content another one has, of the same
            class; one of each is kept, outside of training if it is there.
        contradictory (list[str]): Files of the same content and several
            classes; none is kept.
        side (float): Median of the shorter edges, in pixels.
    """

    images: List[Labelled]
    broken: List[Broken]
    twice: List[str]
    contradictory: List[str]
    side: float


def find_images(data: str) -> List[Labelled]:
    """List the images of a folder, or of a CSV file; in folders also those
    whose format is not read.

    Args:
        data (str): A folder of class folders, one of ``train``, ``val`` and
            perhaps ``test`` with class folders in them, or a CSV file of
            paths and labels, and perhaps splits.

    Raises:
        InputError: If there is no such thing, or no image in it.
    """
    if os.path.isdir(data):
        found = _from_folder(data)
    elif os.path.isfile(data):
        found = _from_csv(data)
    else:
        raise InputError(f'there is no folder or CSV file {data!r}')
    if not found:
        raise InputError(
            f'there are no images in {data!r}: expected <class>/<image> or '
            f'train/<class>/<image>, with the endings {" ".join(EXTENSIONS)}')
    return found


def _folders(path: str) -> Dict[str, str]:
    """The folders in a folder, by their names."""
    return {
        entry.name: entry.path
        for entry in sorted(os.scandir(path), key=lambda e: e.name)
        if entry.is_dir() and not entry.name.startswith('.')
    }


def _splits(data: str) -> Dict[str, str]:
    """The folders of class folders, by their splits."""
    splits = {
        SPLIT_NAMES[name.lower()]: path
        for name, path in _folders(data).items() if name.lower() in SPLIT_NAMES
    }
    return splits if 'train' in splits else {'': data}


def loose_images(data: str) -> List[str]:
    """Images beside the class folders of a folder, which are in no class."""
    roots = {data, *_splits(data).values()} if os.path.isdir(data) else ()
    return sorted(
        entry.path for root in roots for entry in os.scandir(root)
        if entry.name.lower().endswith(EXTENSIONS + UNREAD_EXTENSIONS)
        and not entry.name.startswith('.'))


def _from_folder(data: str) -> List[Labelled]:
    """Images of class folders, perhaps below folders of splits."""
    found, empty = [], []
    for split, root in _splits(data).items():
        for label, folder in _folders(root).items():
            paths = list_files(folder, EXTENSIONS + UNREAD_EXTENSIONS)
            found += [
                Labelled(os.path.abspath(path), label, split) for path in paths
            ]
            if not paths:
                empty.append(folder)
    if found and empty:
        raise InputError(f'some class folders hold no image: '
                         f'{first_few(empty)}; add some, or remove the folder')
    return found


def _from_csv(data: str) -> List[Labelled]:
    """Images of a table; the first line may name its columns."""
    try:
        with open(data, encoding='utf-8-sig', newline='') as file:
            rows = [row for row in csv.reader(file) if any(row)]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f'cannot read the CSV file {data!r}: '
                         f'{error}') from error
    columns, first = _columns(rows[0]) if rows else ((0, 1, None), 0)
    root = os.path.dirname(os.path.abspath(data))
    found = []
    for number, row in enumerate(rows[first:], first + 1):
        cells = [
            row[c].strip() if c is not None and c < len(row) else ''
            for c in columns
        ]
        split = SPLIT_NAMES.get(cells[2].lower())
        if not cells[0] or not cells[1] or (cells[2] and split is None):
            raise InputError(
                f'line {number} of {data!r} must hold a path and a label '
                f'(and perhaps train, val or test), with commas between them, '
                f'got {",".join(row)!r}')
        path = os.path.join(root, os.path.expanduser(cells[0]))
        found.append(Labelled(path, cells[1], split or ''))
    given = {image.split for image in found}
    if '' in given and len(given) > 1 or given and not given & {'', 'train'}:
        raise InputError(f'{data!r} must give a split to each image, train '
                         f'among them, or to none')
    return found


def _columns(
        header: Sequence[str]) -> Tuple[Tuple[int, int, Optional[int]], int]:
    """Where path, label and split stand, and the first row of data."""
    names = [name.strip().lower() for name in header]

    def place(known: Sequence[str]) -> Optional[int]:
        return next((names.index(n) for n in known if n in names), None)

    path, label = place(PATH_COLUMNS), place(LABEL_COLUMNS)
    if path is None or label is None:
        return (0, 1, 2 if len(header) > 2 else None), 0
    return (path, label, place(('split', 'set', 'subset'))), 1


def check_images(images: Sequence[Labelled]) -> Checked:
    """Decode all files, and compare their content.

    Raises:
        InputError: If none can be decoded, or classes are missing.
    """
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        seen = list(
            track(
                pool.map(lambda image: _examine(image.path), images),
                'checking the images',
                total=len(images)))
    broken = [
        Broken(image.path, fault)
        for image, (fault, _, _) in zip(images, seen) if fault
    ]
    if len(broken) == len(images):
        raise InputError(f'none of the {len(images)} images can be decoded; '
                         f'the first: {broken[0].path!r}: {broken[0].reason}')
    _refuse_lost_classes(images, [fault for fault, _, _ in seen])
    alike: Dict[str, List[Labelled]] = defaultdict(list)
    for image, (fault, digest, _) in zip(images, seen):
        if not fault:
            alike[digest].append(image)
    kept, twice, contradictory = [], [], []
    for same in alike.values():
        if len({image.label for image in same}) > 1:
            contradictory += [image.path for image in same]
            continue
        # What was trained on must not test.
        same.sort(key=lambda image: -SPLITS.index(image.split or 'train'))
        kept.append(same[0])
        twice += [image.path for image in same[1:]]
    sides = [side for fault, _, side in seen if not fault]
    kept.sort(key=lambda image: image.path)
    return Checked(kept, broken, twice, contradictory, median(sides))


def _refuse_lost_classes(images: Sequence[Labelled],
                         faults: Sequence[Optional[str]]) -> None:
    """Refuse classes of which no image can be decoded."""
    found = {image.label for image in images}
    good = {i.label for i, fault in zip(images, faults) if not fault}
    lost = sorted(found - good)
    if lost:
        path, fault = next((image.path, fault)
                           for image, fault in zip(images, faults)
                           if image.label == lost[0])
        raise InputError(f'some classes have no image that can be decoded: '
                         f'{first_few(lost)}; the first: {path!r}: {fault}')


def _examine(path: str) -> Tuple[Optional[str], str, int]:
    """What is wrong with a file, a digest of it, and its shorter edge."""
    fault = ending_fault(path) or image_fault(path)
    if fault:
        return fault, '', 0
    with Image.open(path) as image:
        side = min(image.size)
    return None, file_sha256(path), side


def split_images(images: Sequence[Labelled],
                 seed: int = 0) -> Dict[str, List[Labelled]]:
    """Training, held-out (``val``) and test images.

    What is given stays; of what is missing, each class gives its share of
    the training images. Without ``test``, given ``val`` images test, and
    others are held out.

    Raises:
        InputError: If there is one class, or a class or a split has too few
            images, or the splits have different classes.
    """
    parts = {
        name: [i for i in images if (i.split or 'train') == name]
        for name in SPLITS
    }
    _check_classes(parts)
    if not parts['test']:
        parts['test'], parts['val'] = parts['val'], []
    for name in ('test', 'val'):
        if not parts[name]:
            number = max(
                round(HELD_OUT * len(images)),
                len({image.label
                     for image in images}))
            parts['train'], parts[name] = _hold_out(parts['train'], number,
                                                    f'{seed} {name}')
    if len(parts['val']) < LEAST_HELD_OUT:
        raise InputError(
            f'{len(images)} images leave {len(parts["val"])} to solve '
            f'thresholds on, and {LEAST_HELD_OUT} are the least: give about '
            f'{round(LEAST_HELD_OUT / HELD_OUT)} images or more')
    return parts


def _check_classes(parts: Dict[str, List[Labelled]]) -> None:
    """Refuse classes that cannot be learned or judged."""
    counts = Counter(image.label for image in parts['train'])
    if len(counts) < 2:
        raise InputError(f'all {counts.total()} training images are of class '
                         f'{next(iter(counts), "")!r}: there must be two '
                         f'classes or more, each in a folder of its own')
    for name in ('val', 'test'):
        given = {image.label for image in parts[name]}
        other = sorted(given - counts.keys())
        missing = sorted(counts.keys() - given) if given else []
        for problem, where in ((other, f'{name} and not in train'),
                               (missing, f'train and not in {name}')):
            if problem:
                raise InputError(
                    f'some classes are in {where}: '
                    f'{first_few(problem)}; give each split the same classes')
    least = LEAST_OF_CLASS - sum(bool(parts[n]) for n in ('val', 'test'))
    few = sorted(label for label, count in counts.items() if count < least)
    if few:
        raise InputError(
            f'some classes have fewer than {least} training images '
            f'that can be used: {first_few(few)}; add some, or leave these '
            f'classes out')


def _hold_out(images: List[Labelled], number: int,
              salt: str) -> Tuple[List[Labelled], List[Labelled]]:
    """Take so many images away, of each class its share."""
    root = os.path.commonpath([image.path for image in images])
    names = [f'{salt} {os.path.relpath(i.path, root)}' for i in images]
    numbers = {
        label: k
        for k, label in enumerate(sorted({image.label
                                          for image in images}))
    }
    chosen = set(
        choose_hold_out(names, [numbers[i.label] for i in images], number))
    return ([image for k, image in enumerate(images) if k not in chosen],
            [image for k, image in enumerate(images) if k in chosen])


def write_lists(folder: str, parts: Dict[str, List[Labelled]],
                classes: Sequence[str]) -> None:
    """Write the annotation file of each split, and the class names."""
    numbers = {label: k for k, label in enumerate(classes)}
    for name, images in parts.items():
        write_list(
            os.path.join(folder, f'{name}.txt'),
            [f'{image.path} {numbers[image.label]}' for image in images])
    write_list(os.path.join(folder, 'classes.txt'), classes)
