# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The wire format of Protocol Buffers, as far as ONNX files need it."""
from typing import Any, Iterator, List, NamedTuple, Sequence, Tuple, Union

__all__ = ['BYTES', 'VARINT', 'Bytes', 'Field', 'encode', 'enclose', 'fields']

Bytes = Union[bytes, memoryview]
# Kinds of fields on the wire.
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class Field(NamedTuple):
    """A field of a message."""

    number: int
    # Its kind on the wire.
    wire: int
    # A whole number, or what is in its bytes.
    value: Any
    # All of its bytes.
    raw: memoryview


def fields(message: Union[int, Bytes]) -> Iterator[Field]:
    """The fields of a message; ValueError if it is none."""
    if isinstance(message, int):
        raise ValueError('a number is where a message must be')
    view, place = memoryview(message), 0
    while place < len(view):
        start = place
        key, place = _varint(view, place)
        number, wire = key >> 3, key & 7
        value: Union[int, memoryview]
        if wire == VARINT:
            value, place = _varint(view, place)
        elif wire in (FIXED64, BYTES, FIXED32):
            size = {FIXED64: 8, FIXED32: 4}.get(wire)
            if size is None:
                size, place = _varint(view, place)
            value = view[place:place + size]
            place += size
        else:
            raise ValueError(f'there is no kind {wire} of fields')
        if number == 0 or place > len(view):
            raise ValueError(
                'a field is cut off' if number else 'there is no field 0')
        yield Field(number, wire, value, view[start:place])


def _varint(view: memoryview, place: int) -> Tuple[int, int]:
    """A number of seven bits a byte, and the place behind it."""
    value = 0
    for shift, byte in enumerate(view[place:place + 10]):
        value |= (byte & 127) << 7 * shift
        if byte < 128:
            return value, place + shift + 1
    raise ValueError('a number is cut off')


def encode(number: int, value: Union[int, str, Bytes]) -> bytes:
    """Write a field that holds a number of at least 0, a text or a message."""
    if isinstance(value, int):
        return _number(number << 3 | VARINT) + _number(value)
    content = value.encode() if isinstance(value, str) else value
    return b''.join(enclose(number, [content]))


def enclose(number: int, parts: Sequence[Bytes]) -> List[Bytes]:
    """Write a message as a field, in parts: large ones stay in place."""
    size = sum(map(len, parts))
    return [_number(number << 3 | BYTES) + _number(size), *parts]


def _number(value: int) -> bytes:
    """A number as seven bits a byte, the lowest first."""
    content = bytearray()
    while value > 127:
        content.append(value & 127 | 128)
        value >>= 7
    content.append(value)
    return bytes(content)
