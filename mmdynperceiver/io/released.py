# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Weights of a release, by name.

``tools/dev/release_weights.py`` writes the files of a release; where they
are, a folder or an address, is said by :data:`VARIABLE`.
"""
import os
import shutil
import urllib.request
import zipfile
from contextlib import contextmanager
from typing import Any, Dict, Iterator

from .atomic import atomic_folder, unfinished
from .checksums import file_sha256
from .describe import one_line

__all__ = ['SUMS', 'VARIABLE', 'released_folder']

VARIABLE = 'MMDYNPERCEIVER_WEIGHTS'
# The files of a release and their checksums, as sha256sum writes them.
SUMS = 'SHA256SUMS'
SECONDS = 30
# Small networks; what is larger is none of them.
MOST_BYTES = 1 << 30


def released_folder(name: str) -> str:
    """The saved folder of a released network, unpacked in the cache.

    Args:
        name (str): Such as 'cifar10-resnet22-w025'.

    Returns:
        str: A folder below ``~/.cache/mmdynperceiver`` (or
        ``$XDG_CACHE_HOME``). A file is fetched once, as long as its checksum
        stays.

    Raises:
        FileNotFoundError: If it is not said where the release is, or the
            release has no such network.
        OSError: If it cannot be fetched.
        ValueError: If a file was cut short or changed.
    """
    base = os.path.expanduser(os.environ.get(VARIABLE, ''))
    if not base:
        raise FileNotFoundError(
            f'there is no folder {name!r}. If it is the name of released '
            f'weights, set {VARIABLE} to the folder or the https:// address '
            f"of the release's files; a repository on the Hub is named "
            f"'owner/repository'")
    sums = _read_sums(base)
    if name not in sums:
        raise FileNotFoundError(
            f'there is no folder {name!r}, and the release at {base!r} has '
            f'{", ".join(sorted(sums)) or "no weights"}')
    cache = os.path.join(
        os.path.expanduser(os.environ.get('XDG_CACHE_HOME') or '~/.cache'),
        'mmdynperceiver', 'weights', sums[name])
    folder = os.path.join(cache, name)
    if not os.path.isdir(folder):
        os.makedirs(cache, exist_ok=True)
        with unfinished(cache) as work:
            path = os.path.join(work, f'{name}.zip')
            with _open(base, f'{name}.zip') as file, open(path, 'wb') as copy:
                shutil.copyfileobj(file, copy)
            if file_sha256(path) != sums[name]:
                raise ValueError(
                    f'{name}.zip of {base!r} was cut short or changed: its '
                    f'SHA-256 is not that in {SUMS}; try again')
            _unpack(path, name, folder)
    return folder


def _read_sums(base: str) -> Dict[str, str]:
    """Checksums of the zip files of a release, by the networks' names."""
    with _open(base, SUMS) as file:
        rows = [line.split() for line in file.read(1 << 20).splitlines()]
    found = {}
    for row in rows:
        digest, name = (cell.decode('ascii', 'replace') for cell in row[:2]) \
            if len(row) == 2 else ('', '')
        name = name.lstrip('*')
        if len(digest) != 64 or not digest.isalnum() or os.sep in name:
            raise ValueError(f'{SUMS} of {base!r} is no list of checksums, '
                             f'as sha256sum writes it')
        if name.endswith('.zip'):
            found[name[:-len('.zip')]] = digest
    return found


@contextmanager
def _open(base: str, name: str) -> Iterator[Any]:
    """Open a file of a release.

    Raises:
        OSError: If it cannot be read or fetched.
    """
    try:
        if base.startswith(('https://', 'http://')):
            address = f'{base.rstrip("/")}/{name}'
            file = urllib.request.urlopen(address, timeout=SECONDS)
        elif '://' in base:
            raise OSError('it is no folder and no https:// address')
        else:
            file = open(os.path.join(base, name), 'rb')
        with file:
            yield file
    except OSError as error:
        raise OSError(f'cannot read {name} of the release at {base!r} '
                      f'({VARIABLE}): {one_line(error)}') from error


def _unpack(path: str, name: str, folder: str) -> None:
    """Unpack the files of a saved folder, and nothing else."""
    with zipfile.ZipFile(path) as packed, atomic_folder(folder) as new:
        for entry in packed.infolist():
            title = entry.filename.removeprefix(f'{name}/')
            if os.path.basename(title) != title or title in ('', '.', '..') \
                    or entry.file_size > MOST_BYTES:
                raise ValueError(f'{name}.zip holds {entry.filename!r}, '
                                 f'which is no file of a saved folder')
            with packed.open(entry) as file, \
                    open(os.path.join(new, title), 'wb') as copy:
                shutil.copyfileobj(file, copy)
