# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Files of FlatBuffers, as far as graphs of LiteRT need them.

A table names the places of its fields in a list that lies elsewhere; what is
not a number lies elsewhere again, at a distance from where that is said.
"""
import struct
from typing import List, NamedTuple, Optional

__all__ = ['Table', 'root']


def _read(view: memoryview, kind: str, place: int) -> int:
    """A number; ValueError behind the end, or before the start."""
    if not 0 <= place <= len(view) - struct.calcsize(kind):
        raise ValueError('it is cut off, or points outside of itself')
    return struct.unpack_from(kind, view, place)[0]


class Table(NamedTuple):
    """A table at a place of a file."""

    view: memoryview
    place: int

    def _field(self, index: int) -> Optional[int]:
        """The place of a field, None where it has its default."""
        where = self.place - _read(self.view, '<i', self.place)
        entry = 4 + 2 * index
        if entry >= _read(self.view, '<H', where):
            return None
        distance = _read(self.view, '<H', where + entry)
        return self.place + distance if distance else None

    def number(self, index: int, kind: str) -> int:
        """A field that is a number of a kind of :mod:`struct`, little-endian;
        the default is 0."""
        place = self._field(index)
        return 0 if place is None else _read(self.view, f'<{kind}', place)

    def _vector(self, index: int, size: int) -> List[int]:
        """The places of what is in a field, ``size`` bytes each."""
        place = self._field(index)
        if place is None:
            return []
        start = place + _read(self.view, '<I', place)
        count = _read(self.view, '<I', start)
        if start + 4 + count * size > len(self.view):
            raise ValueError('it is cut off')
        return [start + 4 + size * k for k in range(count)]

    def numbers(self, index: int, kind: str) -> List[int]:
        """A field with numbers of a kind."""
        kind = f'<{kind}'
        return [
            _read(self.view, kind, place)
            for place in self._vector(index, struct.calcsize(kind))
        ]

    def tables(self, index: int) -> 'List[Table]':
        """A field with tables."""
        return [
            Table(self.view, place + _read(self.view, '<I', place))
            for place in self._vector(index, 4)
        ]

    def text(self, index: int) -> str:
        """A field with a text."""
        return bytes(self.numbers(index, 'B')).decode()


def root(content: bytes, identifier: bytes) -> Table:
    """The outermost table of a file of a kind; ValueError if it is none."""
    if content[4:8] != identifier:
        raise ValueError(f'it does not begin as a file of the kind '
                         f'{identifier.decode()}')
    view = memoryview(content)
    return Table(view, _read(view, '<I', 0))
