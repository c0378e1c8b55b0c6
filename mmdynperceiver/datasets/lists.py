# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Lists as people and spreadsheets write them, one entry in each line."""
import os
import os.path as osp
import re
from typing import Any, List, Optional, Sequence, Tuple, Union

from mmengine import fileio

from ..errors import InputError
from ..io.atomic import atomic_file

__all__ = [
    'ends_with_number', 'local_separators', 'as_utf8', 'read_classes',
    'read_lines', 'read_list', 'split_label', 'wrong_line', 'write_list'
]

# What stands before a label: at least one space or tab.
LABELLED = re.compile(r'(\S.*?)[ \t]+([+-]?[0-9]+)', re.DOTALL)
SHOWN = 80


def read_lines(path: Union[str, os.PathLike],
               what: str = 'list') -> List[Tuple[int, str]]:
    """Number, from 1, and text of the lines of a file that are not blank.

    A byte-order mark is no text, lines end as on any system, and bytes that
    are not UTF-8 stay what they are in the names of files. The file may be
    of any backend of mmengine.

    Raises:
        InputError: If there is no such file, or it is no text.
    """
    path = osp.expanduser(os.fspath(path))
    try:
        content = fileio.get(path)
    except OSError as error:
        raise InputError(f'cannot read the {what} {path!r}: '
                         f'{error.strerror or error}') from error
    if b'\0' in content:
        raise InputError(f'the {what} {path!r} is not text in UTF-8: save it '
                         f'as that')
    text = content.decode('utf-8', 'surrogateescape')
    lines = re.split('\r\n|\n|\r', text)
    # A mark may also stand where files were put together.
    stripped = ((number, line.lstrip('\ufeff'))
                for number, line in enumerate(lines, 1))
    return [(number, line) for number, line in stripped if line.strip()]


def read_list(path: Union[str, os.PathLike]) -> List[str]:
    """Read the paths of a list file, one in each line.

    Raises:
        InputError: If there is no such file, or it is empty.
    """
    return _read_names(path, 'list of images', '\t')


def read_classes(path: Union[str, os.PathLike]) -> List[str]:
    """Read a file of class names, one in each line; label k is the k-th.

    Raises:
        InputError: If there is no such file, or it is empty.
    """
    names = _read_names(path, 'file of class names', None)
    return [name.lstrip() for name in names]


def _read_names(path: Union[str, os.PathLike], what: str,
                trailing: Optional[str]) -> List[str]:
    """What the lines of a file hold, of which there must be one."""
    names = [
        unquoted(line.rstrip(trailing)) for _, line in read_lines(path, what)
    ]
    if not names:
        raise InputError(f'the {what} {os.fspath(path)!r} is empty')
    return names


def write_list(path: Union[str, os.PathLike], names: Sequence[str]) -> None:
    """Write a list file, a path in each line, whole or not at all.

    Its folder is made.

    Raises:
        InputError: If a name holds an end of line.
    """
    broken = next((n for n in names if '\n' in n or '\r' in n), None)
    if broken is not None:
        raise InputError(f'a list cannot hold the name {broken!r}, in which '
                         f'there is an end of line: rename the file')
    os.makedirs(osp.dirname(os.fspath(path)) or '.', exist_ok=True)
    text = ''.join(f'{name}\n' for name in names)
    with atomic_file(path) as temporary, open(temporary, 'wb') as file:
        file.write(text.encode('utf-8', 'surrogateescape'))


def split_label(line: str) -> Optional[Tuple[str, int]]:
    """A line's path and its label, behind the last space or tab.

    None, if it ends with no whole number or with two.
    """
    match = LABELLED.fullmatch(line.strip())
    # Python refuses longer numbers, and no data set has as many classes.
    if match is None or len(match.group(2)) > 18 or \
            ends_with_number(match.group(1)):
        return None
    return unquoted(match.group(1)), int(match.group(2))


def unquoted(field: str) -> str:
    """A field without the quotes that spreadsheets put around it.

    They do so where a comma, a tab or a quote is in it.
    """
    if len(field) > 2 and field[0] == field[-1] == '"':
        return field[1:-1].replace('""', '"')
    return field


def ends_with_number(text: str) -> bool:
    """Whether the last column of several is a whole number."""
    return LABELLED.fullmatch(text) is not None


def wrong_line(path: str, number: int, line: Any, expected: str) -> InputError:
    """The error of a line (numbered from 1) that does not fit."""
    shown = str(line)
    shown = shown if len(shown) <= SHOWN else shown[:SHOWN] + '...'
    return InputError(f'line {number} of {path!r} must be {expected}, got '
                      f'{shown!r}')


def local_separators(name: str, folder: str) -> str:
    r"""A path of a list with this system's separators.

    Lists made on Windows have backslashes. Elsewhere a backslash may be part
    of a name, so that a file of exactly this name in the folder goes first.
    """
    if '\\' not in name or os.sep == '\\' or \
            osp.lexists(osp.join(osp.expanduser(folder), name)):
        return name
    return name.replace('\\', '/')


def as_utf8(name: Any) -> str:
    """A name without the bytes that are not UTF-8, as ``\\xff`` instead."""
    content = str(name).encode('utf-8', 'surrogateescape')
    return content.decode('utf-8', 'backslashreplace')
