# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Images to hold out of a training set, always the same ones."""
import hashlib
import os.path as osp
from collections import Counter, defaultdict
from typing import Callable, Dict, List, Sequence

from ..errors import InputError
from .lists import local_separators, read_list, write_list

__all__ = [
    'choose_hold_out', 'leave_out', 'read_list', 'single_images', 'write_list'
]


def choose_hold_out(names: Sequence[str], labels: Sequence[int],
                    number: int) -> List[int]:
    """Choose ``number`` images to hold out, from each class its share.

    The choice follows from the names alone: it is the same on every machine
    and in every order, and looks random. A class with a single image keeps
    it.

    Returns:
        list[int]: Their indices, ascending.

    Raises:
        InputError: If not every other class could give one and keep one.
    """
    members: Dict[int, List[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        members[label].append(index)
    if not members:
        raise InputError('there are no images to hold some out of')
    sizes = {k: len(members[k]) for k in sorted(members) if members[k][1:]}
    if not sizes:
        raise InputError(f'none of the {len(labels)} images can be held out: '
                         f'each is the only one of its class')
    most = sum(sizes.values()) - len(sizes)
    if not len(sizes) <= number <= most:
        raise InputError(f'{len(sizes)} (one of each class) to {most} of the '
                         f'{len(labels)} images can be held out, got {number}')
    chosen: List[int] = []
    for label, quota in _quotas(sizes, number).items():
        chosen += sorted(members[label], key=lambda i: _draw(names[i]))[:quota]
    return sorted(chosen)


def _draw(name: str) -> bytes:
    """What looks random, and is the same for a name everywhere."""
    return hashlib.sha256(name.encode('utf-8', 'surrogateescape')).digest()


def single_images(labels: Sequence[int]) -> List[int]:
    """The classes of which there is a single image, to be kept."""
    counts = Counter(labels)
    return sorted(label for label, count in counts.items() if count == 1)


def _quotas(sizes: Dict[int, int], number: int) -> Dict[int, int]:
    """Share a number out over classes: at least one, never a whole class."""
    total = sum(sizes.values())
    exact = {label: number * size / total for label, size in sizes.items()}
    quotas = {label: max(1, int(value)) for label, value in exact.items()}
    while sum(quotas.values()) > number:
        label = max((label for label in sizes if quotas[label] > 1),
                    key=lambda label: quotas[label] - exact[label])
        quotas[label] -= 1
    while sum(quotas.values()) < number:
        label = max(
            (label for label in sizes if quotas[label] < sizes[label] - 1),
            key=lambda label: exact[label] - quotas[label])
        quotas[label] += 1
    return quotas


def leave_out(data_list: List[dict], path_of: Callable[[dict], str],
              list_file: str, root: str) -> List[dict]:
    """Leave out the samples of a list, a path below ``root`` in each line.

    Raises:
        InputError: If a file of the list is not in the data, or nothing is
            left.
    """
    paths = [_absolute(path_of(info)) for info in data_list]
    excluded = {
        _absolute(osp.join(root, local_separators(name, root)))
        for name in read_list(list_file)
    }
    kept = [i for i, path in zip(data_list, paths) if path not in excluded]
    missing = sorted(excluded - set(paths))
    if missing:
        raise InputError(
            f'{len(missing)} of the {len(excluded)} files that {list_file!r} '
            f'leaves out are not in the data, the first: {missing[0]!r}; the '
            f'list is for other data')
    if not kept:
        raise InputError(f'{list_file!r} leaves out all {len(data_list)} '
                         f'samples')
    return kept


def _absolute(path: str) -> str:
    """One spelling of a path, whether the folder is given from here or not."""
    return osp.abspath(osp.expanduser(path))
