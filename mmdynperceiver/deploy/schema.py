# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Check what was read from JSON against what must be there.

A schema is made of functions; each gets a value and its place, and raises a
ValueError that names both if the value does not fit.
"""
import math
import re
import reprlib
from typing import Any, Callable, Mapping, Optional

__all__ = [
    'anything', 'choice', 'list_of', 'map_of', 'number', 'optional', 'record',
    'text', 'variants', 'whole'
]

Check = Callable[[Any, str], None]


def anything(value: Any, place: str) -> None:
    """Whatever it is, it fits."""


def whole(least: int, most: int) -> Check:
    """A whole number in a range.

    Args:
        least (int): The least.
        most (int): The most.
    """

    def check(value: Any, place: str) -> None:
        if type(value) is not int or not least <= value <= most:
            _refuse(value, place, f'a whole number of {least} to {most}')

    return check


def number(least: float, most: float) -> Check:
    """A finite number in a range.

    Args:
        least (float): The least.
        most (float): The most.
    """

    def check(value: Any, place: str) -> None:
        if type(value) not in (int, float) or not least <= value <= most or \
                math.isinf(value):
            _refuse(value, place, f'a number of {least:g} to {most:g}')

    return check


def text(pattern: str = '', expected: str = 'a text') -> Check:
    """A text.

    Args:
        pattern (str): What it must match as a whole. Defaults to '',
            anything.
        expected (str): This in words. Defaults to 'a text'.
    """

    def check(value: Any, place: str) -> None:
        if not isinstance(value, str) or \
                (pattern and not re.fullmatch(pattern, value)):
            _refuse(value, place, expected)
        try:
            value.encode()
        except UnicodeEncodeError:
            _refuse(value, place, 'a text of whole characters')

    return check


def choice(*values: str) -> Check:
    """One of several texts.

    Args:
        values (str): Those.
    """

    def check(value: Any, place: str) -> None:
        if not isinstance(value, str) or value not in values:
            _refuse(value, place, f'one of {", ".join(values)}')

    return check


def list_of(item: Check, least: int = 0, most: int = 1 << 20) -> Check:
    """A list.

    Args:
        item (Callable): What each entry must be.
        least (int): How many there must be. Defaults to 0.
        most (int): How many there may be. Defaults to a million.
    """
    count = f'{least}' if least == most else f'{least} to {most}'

    def check(value: Any, place: str) -> None:
        if not isinstance(value, list) or not least <= len(value) <= most:
            _refuse(value, place, f'a list of {count} entries')
        for index, entry in enumerate(value):
            item(entry, f'{place}[{index}]')

    return check


def map_of(key: Check, item: Check) -> Check:
    """An object of any keys.

    Args:
        key (Callable): What each key must be.
        item (Callable): What each value must be.
    """

    def check(value: Any, place: str) -> None:
        if not isinstance(value, dict):
            _refuse(value, place, 'an object')
        for name, entry in value.items():
            key(name, f'a key of {place}')
            item(entry, f'{place}[{reprlib.repr(name)}]')

    return check


def record(needed: Mapping[str, Check],
           possible: Optional[Mapping[str, Check]] = None) -> Check:
    """An object of certain keys.

    Args:
        needed (Mapping[str, Callable]): What must be there.
        possible (Mapping[str, Callable], optional): What may be there.
            Defaults to None, nothing more.
    """
    known = {**needed, **(possible or {})}

    def check(value: Any, place: str) -> None:
        if not isinstance(value, dict):
            _refuse(value, place, 'an object')
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


def variants(key: str, kinds: Mapping[str, Check]) -> Check:
    """An object of one of several kinds.

    Args:
        key (str): Where it says which.
        kinds (Mapping[str, Callable]): What it must be then.
    """

    def check(value: Any, place: str) -> None:
        kind = value.get(key) if isinstance(value, dict) else None
        choice(*kinds)(kind, f'{place}.{key}')
        kinds[kind](value, place)

    return check


def optional(item: Check) -> Check:
    """Something or null.

    Args:
        item (Callable): What it must be, if it is not null.
    """

    def check(value: Any, place: str) -> None:
        if value is not None:
            item(value, place)

    return check


def _refuse(value: Any, place: str, expected: str) -> None:
    """Say what does not fit."""
    raise ValueError(f'{place} must be {expected}, got {reprlib.repr(value)}')
