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
LIST = 'list of images'
SHOWN = 80


def read_lines(path: Union[str, os.PathLike],
               what: str = 'list') -> List[Tuple[int, str]]:
    """Read the lines of a text file that are not blank.

    A byte-order mark is no text, lines end as on any system, and bytes that
    are not UTF-8 stay what they are in the names of files.

    Args:
        path (str | PathLike): The file; of any backend of mmengine.
        what (str): What it is, for the message. Defaults to 'list'.

    Returns:
        list[tuple[int, str]]: Number, from 1, and text of each line.

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
    """Read a list file: a path in each line.

    Args:
        path (str | PathLike): The file.

    Raises:
        InputError: If there is no such file, or it is empty.
    """
    names = [unquoted(line.rstrip('\t')) for _, line in read_lines(path, LIST)]
    if not names:
        raise InputError(f'the {LIST} {os.fspath(path)!r} is empty')
    return names


def read_classes(path: Union[str, os.PathLike]) -> List[str]:
    """Read a file of class names, one in each line; label k is the k-th.

    Args:
        path (str | PathLike): The file.

    Raises:
        InputError: If there is no such file, or it is empty.
    """
    names = [
        unquoted(line.strip())
        for _, line in read_lines(path, 'file of class names')
    ]
    if not names:
        raise InputError(f'the file of class names {os.fspath(path)!r} is '
                         f'empty')
    return names


def write_list(path: Union[str, os.PathLike], names: Sequence[str]) -> None:
    """Write a list file, whole or not at all.

    Args:
        path (str | PathLike): The file; its folder is made.
        names (Sequence[str]): A path for each line.

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

    Args:
        line (str): The line.

    Returns:
        tuple[str, int] | None: None, if it ends with no whole number or with
        two.
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

    Args:
        field (str): The field.
    """
    if len(field) > 2 and field[0] == field[-1] == '"':
        return field[1:-1].replace('""', '"')
    return field


def ends_with_number(text: str) -> bool:
    """Whether the last column of several is a whole number.

    Args:
        text (str): The columns.
    """
    return LABELLED.fullmatch(text) is not None


def wrong_line(path: str, number: int, line: Any, expected: str) -> InputError:
    """The error of a line that does not fit.

    Args:
        path (str): The file.
        number (int): Number of the line, from 1.
        line (Any): Its text.
        expected (str): What it must be.
    """
    shown = str(line)
    shown = shown if len(shown) <= SHOWN else shown[:SHOWN] + '...'
    return InputError(f'line {number} of {path!r} must be {expected}, got '
                      f'{shown!r}')


def local_separators(name: str, folder: str) -> str:
    r"""A path of a list with this system's separators.

    Lists made on Windows have backslashes. Elsewhere a backslash may be part
    of a name, so that a file of exactly this name goes first.

    Args:
        name (str): A path, below the folder.
        folder (str): The folder.
    """
    if '\\' not in name or os.sep == '\\' or \
            osp.lexists(osp.join(osp.expanduser(folder), name)):
        return name
    return name.replace('\\', '/')


def as_utf8(name: Any) -> str:
    """A name without the bytes that are not UTF-8, as ``\\xff`` instead.

    Args:
        name (Any): A name, such as that of a folder.
    """
    content = str(name).encode('utf-8', 'surrogateescape')
    return content.decode('utf-8', 'backslashreplace')
