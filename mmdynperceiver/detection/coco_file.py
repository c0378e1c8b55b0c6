# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Annotation files in COCO's format, read whole and checked."""
import json
import math
import reprlib
from collections import Counter
from typing import Any, Dict, Sequence

from ..errors import InputError

__all__ = ['is_number', 'read_annotations', 'value_of']


def read_annotations(path: str, name: str) -> Dict[str, Any]:
    """Read a file, called ``name``, and check all but its annotations.

    Returns:
        dict: With lists of ``images``, ``annotations`` and ``categories``.

    Raises:
        InputError: If it does not hold what COCO's format asks for.
    """
    wrong = f"{name!r} does not hold annotations in COCO's format: "
    try:
        with open(path, 'rb') as file:
            content = json.loads(file.read())
    except FileNotFoundError:
        raise InputError(f'there is no annotation file {name!r}') from None
    except OSError as error:
        raise InputError(f'cannot read the annotation file {name!r}: '
                         f'{error.strerror}') from error
    except RecursionError:
        raise InputError(f'{wrong}it is nested too deeply') from None
    except ValueError as error:
        raise InputError(f'{wrong}{error}') from error
    if not isinstance(content, dict):
        raise InputError(f'{wrong}it is no object, but a '
                         f'{type(content).__name__}')
    for key in ('images', 'annotations', 'categories'):
        entries = content.setdefault(key, [])
        if not isinstance(entries, list) or not all(
                isinstance(entry, dict) for entry in entries):
            raise InputError(f'{wrong}{key!r} is no list of objects')
    if not content['images']:
        raise InputError(f'{name!r} lists no images')
    _check_ids(content['images'], 'image', name)
    _check_ids(content['categories'], 'category', name)
    _check_ids(content['annotations'], 'annotation', name)
    for image in content['images']:
        _check_image(image, name)
    _check_categories(content['categories'], name)
    return content


def _check_ids(entries: Sequence[dict], what: str, name: str) -> None:
    """Refuse ids that are missing, of several kinds, or there twice."""
    seen, kinds = set(), set()
    for number, entry in enumerate(entries, 1):
        number_id = entry.get('id')
        if type(number_id) not in (int, str):
            raise InputError(
                f'{what} number {number} of {name!r} has '
                f"{value_of(entry, 'id')}, where a whole number or a text is "
                f'expected')
        if number_id in seen:
            raise InputError(f'{name!r} has two entries for the {what} '
                             f'{short(number_id)}')
        seen.add(number_id)
        kinds.add(type(number_id))
    if len(kinds) > 1:
        raise InputError(f'the ids of {name!r} are whole numbers for some '
                         f'entries and texts for others ({what})')


def _check_image(image: Dict[str, Any], name: str) -> None:
    """Refuse an image without a file name or a size."""
    file_name = image.get('file_name')
    if not isinstance(file_name, str) or not file_name or '\0' in file_name:
        raise InputError(f'image {image["id"]!r} of {name!r} has '
                         f"{value_of(image, 'file_name')}, where the name of "
                         f'a file is expected')
    for key in ('width', 'height'):
        if not is_number(image.get(key)) or image[key] <= 0:
            raise InputError(
                f'image {image["id"]!r} of {name!r} ({file_name!r}) has '
                f'{value_of(image, key)}, where a number of pixels is '
                f'expected')


def _check_categories(categories: Sequence[dict], name: str) -> None:
    """Refuse categories without a name of their own."""
    names = [category.get('name') for category in categories]
    for category in categories:
        if not isinstance(category.get('name'), str):
            raise InputError(
                f'category {category["id"]!r} of {name!r} has '
                f"{value_of(category, 'name')}, where a text is expected")
    twice = [text for text, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f'{name!r} has two categories of the name '
                         f'{twice[0]!r}')


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a finite number."""
    if type(value) not in (int, float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # more digits than a float holds
        return False


def value_of(entry: Dict[str, Any], key: str) -> str:
    """A value of an entry, in words."""
    if key not in entry:
        return f'no {key!r}'
    return f'the {key} {short(entry[key])}'


def short(value: Any) -> str:
    """A value in so many characters that it fits in a line."""
    return reprlib.repr(value)
