# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Which files are images, or videos, and which are too large to decode.

The same for training, the tools and deployment; needs neither torch nor an
OpenMMLab package.
"""
import os
from typing import (FrozenSet, List, NamedTuple, Optional, Sequence, Tuple,
                    Union)

from ..io.describe import one_line

__all__ = [
    'Broken', 'EXTENSIONS', 'FILE_ERRORS', 'FileKind', 'IMAGES',
    'MAX_PIXELS_VARIABLE', 'TooManyPixelsError', 'UNREAD_EXTENSIONS', 'VIDEOS',
    'VIDEO_EXTENSIONS', 'check_pixels', 'ending_fault', 'find_files',
    'list_files', 'list_images', 'max_pixels', 'read_list'
]

EXTENSIONS = ('.bmp', '.jfif', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif',
              '.tiff', '.webp')
# Images too, but not every decoder of training and deployment reads them.
UNREAD_EXTENSIONS = ('.arw', '.avif', '.cr2', '.cr3', '.dng', '.gif', '.heic',
                     '.heif', '.jp2', '.jxl', '.nef', '.psd', '.svg')
VIDEO_EXTENSIONS = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg',
                    '.webm')


class FileKind(NamedTuple):
    """Files that are looked for in folders.

    Args:
        noun (str): What one is called.
        endings (tuple[str]): What their names end with, in small letters.
        unread (tuple[str]): Endings of others of the kind that are not read.
            Defaults to none.
    """

    noun: str
    endings: Tuple[str, ...]
    unread: Tuple[str, ...] = ()


IMAGES = FileKind('image', EXTENSIONS, UNREAD_EXTENSIONS)
VIDEOS = FileKind('video', VIDEO_EXTENSIONS)
# Set to allow larger images, or only smaller ones.
MAX_PIXELS_VARIABLE = 'MMDYNPERCEIVER_MAX_PIXELS'
# Where Pillow takes a file for a decompression bomb: half a GB of pixels.
MAX_PIXELS = 178_956_970

# What a file can do to whoever reads it.
FILE_ERRORS = (OSError, ValueError, MemoryError)


class Broken(NamedTuple):
    """A file without a result.

    Args:
        path (str): The file, or a folder without files of its kind.
        reason (str): What is wrong with it, in one line.
    """

    path: str
    reason: str


class TooManyPixelsError(ValueError):
    """An image has more pixels than allowed."""


def list_files(folder: Union[str, os.PathLike],
               endings: Sequence[str],
               broken: Optional[List[Broken]] = None) -> List[str]:
    """The files in a folder and below it, with one of some endings, sorted.

    Links to folders are followed, but not to a folder that they are in.
    Hidden files and folders are left out, such as the ``._`` files of macOS.
    Endings are in small letters. Folders below it that cannot be read go
    into ``broken``.

    Raises:
        OSError: If the folder cannot be read; without ``broken``, also one
            below it.
    """
    found: List[str] = []
    # Folders to read, each with the real ones that it is in.
    pending: List[Tuple[str,
                        FrozenSet[str]]] = [(os.fspath(folder), frozenset())]
    while pending:
        path, above = pending.pop()
        real = os.path.realpath(path)
        if real in above:
            continue
        try:
            entries = list(os.scandir(path))
        except OSError as error:
            if broken is None or not above:
                raise
            broken.append(Broken(path, one_line(error)))
            continue
        for entry in entries:
            if entry.name.startswith('.'):
                continue
            if _is_folder(entry):
                pending.append((entry.path, above | {real}))
            elif entry.name.lower().endswith(tuple(endings)):
                found.append(entry.path)
    return sorted(found)


def _is_folder(entry: os.DirEntry) -> bool:
    """Whether it is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def ending_fault(path: str) -> Optional[str]:
    """Why a file is not read, if its ending says that it is an image of
    another format."""
    ending = os.path.splitext(path)[1].lower()
    if ending not in UNREAD_EXTENSIONS:
        return None
    return f'files that end with {ending} are not read: make it a JPEG or PNG'


def list_images(folder: Union[str, os.PathLike],
                kind: FileKind = IMAGES,
                broken: Optional[List[Broken]] = None) -> List[str]:
    """What :func:`list_files` finds: files of a kind.

    Raises:
        FileNotFoundError: If there is none.
        OSError: If a folder cannot be read.
    """
    found = list_files(folder, kind.endings, broken)
    if not found:
        other = list_files(folder, kind.unread, [])
        hint = f'; {other[0]!r}: {ending_fault(other[0])}' if other else ''
        raise FileNotFoundError(
            f'there is no {kind.noun} in {os.fspath(folder)!r} or below it '
            f'(looked for {", ".join(kind.endings)}{hint})')
    return found


def find_files(paths: Sequence[str],
               on_broken: str = 'skip',
               kind: FileKind = IMAGES) -> Tuple[List[str], List[Broken]]:
    """Files, and those of a kind in folders, in the order given.

    ``@LIST`` stands for the files that a list names, see :func:`read_list`.
    A folder that gives none or cannot be read is skipped, or with
    ``on_broken='raise'`` an error; so are files in it that are of the kind and
    not read.

    Returns:
        tuple: The files, and what was skipped.

    Raises:
        OSError: If a list cannot be read.
        ValueError: If a list names nothing.
    """
    found: List[str] = []
    broken: List[Broken] = []
    # What gets the folders that cannot be read.
    unread = None if on_broken == 'raise' else broken
    for path in paths:
        if path.startswith('@') and not os.path.exists(path):
            found += read_list(path[1:])
            continue
        if not os.path.isdir(path):
            found.append(path)
            continue
        try:
            found += list_images(path, kind, unread)
        except OSError as error:
            if unread is None:
                raise
            broken.append(Broken(path, one_line(error)))
            continue
        broken += [
            Broken(
                file,
                f'cannot read the {kind.noun} {file!r}: {ending_fault(file)}')
            for file in list_files(path, kind.unread, [])
        ]
    if broken and unread is None:
        raise ValueError(broken[0].reason)
    return found, broken


def read_list(path: str) -> List[str]:
    """The files that a list names, one a line, from the folder of the list.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it names nothing.
    """
    with open(path, encoding='utf-8', errors='surrogateescape') as file:
        names = [line.strip() for line in file]
    found = [
        os.path.join(os.path.dirname(path), name) for name in names if name
    ]
    if not found:
        raise ValueError(f'the list {path!r} names no file: it needs a path '
                         f'on each line')
    return found


def max_pixels() -> int:
    """How many pixels an image may have before it is decoded.

    Raises:
        ValueError: If the environment says something else than a number.
    """
    text = os.environ.get(MAX_PIXELS_VARIABLE)
    if not text:
        return MAX_PIXELS
    if not text.isdecimal() or not int(text):
        raise ValueError(f'{MAX_PIXELS_VARIABLE} must be a positive whole '
                         f'number, got {text!r}')
    return int(text)


def check_pixels(name: str,
                 size: Sequence[int],
                 limit: Optional[int] = None) -> None:
    """Refuse an image, called so, that says that it is very large.

    Args:
        size (Sequence[int]): Its width and height.
        limit (int, optional): Most pixels. Defaults to :func:`max_pixels`.

    Raises:
        TooManyPixelsError: If it has more.
    """
    limit = max_pixels() if limit is None else limit
    width, height = size
    if width * height > limit:
        raise TooManyPixelsError(
            f'{name} has {width}x{height} pixels, more than the limit of '
            f'{limit:,}: make it smaller, or raise the limit by '
            f'{MAX_PIXELS_VARIABLE}')
