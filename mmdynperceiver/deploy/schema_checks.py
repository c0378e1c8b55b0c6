# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The checks that a manifest's schema is made of.

They are functions of a value and its place, which raise a ValueError that
names both if the value does not fit.
"""
import re
import reprlib
from typing import Any, Callable, Mapping, Optional

__all__ = [
    'Check', 'anything', 'choice', 'fits', 'list_of', 'map_of', 'number',
    'optional', 'record', 'text', 'whole'
]

Check = Callable[[Any, str], Any]


def fits(test: Callable[[Any], Any], expected: str) -> Check:
    """A value of which a test holds, and what that is in words."""

    def check(value: Any, place: str) -> None:
        if not test(value):
            raise ValueError(
                f'{place} must be {expected}, got {reprlib.repr(value)}')

    return check


def whole(least: int, most: int) -> Check:
    """A whole number in a range."""
    return fits(lambda value: type(value) is int and least <= value <= most,
                f'a whole number of {least} to {most}')


def number(least: float, most: float) -> Check:
    """A number in a range of finite ones."""
    return fits(
        lambda value: type(value) in (int, float) and least <= value <= most,
        f'a number of {least:g} to {most:g}')


def text(pattern: str = '(?s:.*)', expected: str = 'a text') -> Check:
    """A text that a pattern matches as a whole."""
    right = fits(lambda v: isinstance(v, str) and re.fullmatch(pattern, v),
                 expected)
    encodable = fits(lambda v: not re.search(r'[\ud800-\udfff]', v),
                     'a text of whole characters')
    return lambda value, place: (right(value, place), encodable(value, place))


def choice(*values: str) -> Check:
    """One of several texts."""
    return fits(lambda value: isinstance(value, str) and value in values,
                f'one of {", ".join(values)}')


def list_of(item: Check, least: int = 0, most: int = 1 << 20) -> Check:
    """A list of so many entries."""
    count = f'{least}' if least == most else f'{least} to {most}'
    right = fits(
        lambda value: isinstance(value, list) and least <= len(value) <= most,
        f'a list of {count} entries')

    def check(value: Any, place: str) -> None:
        right(value, place)
        for index, entry in enumerate(value):
            item(entry, f'{place}[{index}]')

    return check


def map_of(key: Check, item: Check) -> Check:
    """An object of any keys that fit."""

    def check(value: Any, place: str) -> None:
        AN_OBJECT(value, place)
        for name, entry in value.items():
            key(name, f'a key of {place}')
            item(entry, f'{place}[{reprlib.repr(name)}]')

    return check


def record(needed: Mapping[str, Check],
           possible: Optional[Mapping[str, Check]] = None) -> Check:
    """An object of keys that must be there and others that may be."""
    known = {**needed, **(possible or {})}

    def check(value: Any, place: str) -> None:
        AN_OBJECT(value, place)
        inside = f' in {place}' if place else ''
        for name in needed:
            if name not in value:
                raise ValueError(f'{name!r}{inside} is missing')
        for name, entry in value.items():
            if name not in known:
                raise ValueError(f'{reprlib.repr(name)}{inside} is not '
                                 f'known; known are {", ".join(known)}')
            known[name](entry, f'{place}.{name}' if place else name)

    return check


def optional(item: Check) -> Check:
    """Something or null."""
    return lambda value, place: None if value is None else item(value, place)


def anything(value: Any, place: str) -> None:
    """Whatever it is, it fits."""


AN_OBJECT = fits(lambda value: isinstance(value, dict), 'an object')
