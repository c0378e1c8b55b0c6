# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Images to hold out of a training set, always the same ones."""
import hashlib
import os
from collections import defaultdict
from typing import Callable, Dict, List, Sequence, Union

from ..core.files import write_text
from .errors import InputError

__all__ = ['choose_hold_out', 'leave_out', 'read_list', 'write_list']


def choose_hold_out(names: Sequence[str], labels: Sequence[int],
                    number: int) -> List[int]:
    """Choose images to hold out, from each class its share.

    The choice follows from the names alone: it is the same on every machine
    and in every order, and looks random.

    Args:
        names (Sequence[str]): A name for each image, such as its path in the
            folder of the data.
        labels (Sequence[int]): Its class.
        number (int): How many to hold out.

    Returns:
        list[int]: Their indices, ascending.

    Raises:
        InputError: If not every class could give one image and keep one.
    """
    members: Dict[int, List[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        members[label].append(index)
    sizes = {label: len(members[label]) for label in sorted(members)}
    if not sizes:
        raise InputError('there are no images to hold some out of')
    smallest = min(sizes, key=lambda label: sizes[label])
    if sizes[smallest] < 2:
        raise InputError(f'class {smallest} has only one image, so none can '
                         f'be held out of it')
    most = len(labels) - len(sizes)
    if not len(sizes) <= number <= most:
        raise InputError(f'{len(sizes)} (one of each class) to {most} of the '
                         f'{len(labels)} images can be held out, got {number}')
    chosen: List[int] = []
    for label, quota in _quotas(sizes, number).items():
        order = sorted(
            members[label],
            key=lambda index: hashlib.sha256(names[index].encode()).digest())
        chosen += order[:quota]
    return sorted(chosen)


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


def read_list(path: Union[str, os.PathLike]) -> List[str]:
    """Read a list file: a path in each line.

    Args:
        path (str | PathLike): The file.

    Raises:
        InputError: If there is no such file, or it is empty.
    """
    path = os.path.expanduser(os.fspath(path))
    try:
        with open(path, encoding='utf-8') as file:
            names = [line.rstrip('\r\n') for line in file]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f'cannot read the list of images {path!r}: '
                         f'{getattr(error, "strerror", error)}') from error
    names = [name for name in names if name.strip()]
    if not names:
        raise InputError(f'the list of images {path!r} is empty')
    return names


def write_list(path: Union[str, os.PathLike], names: Sequence[str]) -> None:
    """Write a list file, whole or not at all.

    Args:
        path (str | PathLike): The file; its folder is made.
        names (Sequence[str]): A path for each line.
    """
    os.makedirs(os.path.dirname(os.fspath(path)) or '.', exist_ok=True)
    write_text(path, ''.join(f'{name}\n' for name in names))


def leave_out(data_list: List[dict], path_of: Callable[[dict], str],
              list_file: str, root: str) -> List[dict]:
    """Leave the samples of a list out of a data set.

    Args:
        data_list (list[dict]): What the data set knows of each sample.
        path_of (Callable): Gives a sample's file or folder.
        list_file (str): The list: a path in each line, below ``root``.
        root (str): Folder of the data.

    Returns:
        list[dict]: The other samples.

    Raises:
        InputError: If a file of the list is not in the data, or nothing is
            left.
    """
    paths = [os.path.normpath(path_of(info)) for info in data_list]
    excluded = {
        os.path.normpath(os.path.join(root, name))
        for name in read_list(list_file)
    }
    kept = [
        info for info, path in zip(data_list, paths) if path not in excluded
    ]
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
