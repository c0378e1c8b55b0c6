# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What a manifest must hold for its network to run.

The schema is made of checks: functions of a value and its place, which raise
a ValueError that names both if the value does not fit.
"""
import math
import re
import reprlib
from typing import Any, Callable, Dict, Mapping, Optional

from .pipeline import INTERPOLATIONS
from .policy import Policy
from .video_pipeline import images_of_video

__all__ = ['check_manifest']

Check = Callable[[Any, str], Any]

MAX_EDGE = 1 << 14
# Of one sample: 1 GiB in float32.
MAX_ELEMENTS = 1 << 28


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


def step(value: Any, place: str) -> None:
    """A step of the preprocessing."""
    kind = value.get('kind') if isinstance(value, dict) else None
    choice(*STEPS)(kind, f'{place}.kind')
    STEPS[kind](value, place)


def optional(item: Check) -> Check:
    """Something or null."""
    return lambda value, place: None if value is None else item(value, place)


def anything(value: Any, place: str) -> None:
    """Whatever it is, it fits."""


AN_OBJECT = fits(lambda value: isinstance(value, dict), 'an object')
EDGE = whole(1, MAX_EDGE)
SIZE = list_of(EDGE, 2, 2)
NAME = text(r'\w[\w.:/-]{0,200}', 'the name of a tensor')
FILE = text(r'\w[\w.-]{0,200}\.onnx', 'the name of an .onnx file in the '
            'folder, without a path')
NOTES = optional(map_of(text(), anything))
SETTINGS = optional(list_of(number(0, 1e6)))
RESIZE = dict(
    kind=anything,
    library=choice(*INTERPOLATIONS),
    interpolation=choice(*sorted(set().union(*INTERPOLATIONS.values()))))
STEPS = dict(
    resize=record(dict(size=SIZE, **RESIZE)),
    resize_edge=record(
        dict(
            size=EDGE,
            edge=choice('short', 'long', 'width', 'height'),
            **RESIZE)),
    resize_inside=record(dict(short=EDGE, long=optional(EDGE), **RESIZE)),
    center_crop=record(
        dict(kind=anything, size=SIZE), dict(rounds=choice('down'))))
VIDEO = record(
    dict(num_clips=whole(1, 4096)),
    dict(
        twice_sample=fits(lambda value: isinstance(value, bool),
                          'true or false'),
        min_frames=whole(0, 1 << 30),
        crops=SIZE))
SHARE = number(0, 1)
WEIGHTS = list_of(number(-1e6, 1e6))
ENSEMBLE = record(dict(kind=text(), weights=list_of(WEIGHTS)))
CERTIFICATE = record(
    dict(risk=text(), max_risk=SHARE),
    dict(
        certainty=optional(SHARE),
        method=text(),
        num_images=whole(1, 1 << 40),
        observed=number(-1, 1),
        p_value=SHARE,
        bound=number(-1, 1),
        thresholds=SETTINGS,
        deep_share=SHARE,
        safer=list_of(list_of(number(0, 1e6))),
        made_for=NOTES))
MANIFEST = record(
    dict(
        format=whole(1, 1),
        segments=list_of(
            record(
                dict(
                    file=FILE,
                    inputs=list_of(NAME, 1),
                    outputs=list_of(NAME, 1))), 1, 64),
        # The shapes begin with the text 'batch'.
        tensors=map_of(NAME, list_of(anything, 2, 8)),
        preprocessing=record(
            dict(
                size=SIZE,
                mean=list_of(number(-1e6, 1e6), 3, 3),
                std=list_of(number(1e-6, 1e6), 3, 3)),
            dict(
                decoder=choice(*INTERPOLATIONS),
                channels=choice('rgb', 'bgr'),
                steps=list_of(step),
                video=VIDEO)),
        policy=record({},
                      dict(
                          thresholds=SETTINGS,
                          criterion=text(),
                          temperature=SETTINGS,
                          ensemble=optional(ENSEMBLE),
                          stopping=optional(list_of(WEIGHTS)))),
        classes=list_of(text(), 1),
        macs_per_exit=list_of(whole(1, 1 << 62)),
        sha256=map_of(FILE, text('[0-9a-f]{64}', 'a SHA-256'))),
    dict(
        precision=choice('fp32', 'int8'),
        source=NOTES,
        versions=NOTES,
        quantization=NOTES,
        certificate=optional(CERTIFICATE)))


def check_manifest(content: Any) -> None:
    """Refuse a manifest that no runner can work with.

    Args:
        content (Any): What the file holds, but its own checksum.

    Raises:
        ValueError: If something is missing, unknown, of another type or out
            of range, or if two things do not fit together.
    """
    MANIFEST(content, '')
    for name, value in content['tensors'].items():
        _check_shape(f'tensors[{name!r}]', value)
    _check_preprocessing(content)
    _check_segments(content)
    count, macs = len(content['segments']), content['macs_per_exit']
    if len(macs) != count or any(b <= a for a, b in zip(macs, macs[1:])):
        raise ValueError(f'macs_per_exit must hold {count} numbers, each '
                         f'larger than the one before, got {macs[:8]}')
    try:
        Policy(count, **content['policy'])
    except (TypeError, ValueError) as error:
        raise ValueError(f'policy: {error}') from error


def _check_shape(place: str, shape: Any) -> None:
    """Refuse what is not 'batch' and sizes."""
    if shape[0] != 'batch':
        raise ValueError(f"{place}[0] must be 'batch', got {shape[0]!r}")
    for index, size in enumerate(shape[1:], 1):
        whole(1, MAX_ELEMENTS)(size, f'{place}[{index}]')
    elements = math.prod(shape[1:])
    if elements > MAX_ELEMENTS:
        raise ValueError(f'{place} has {elements} elements for each sample; '
                         f'{MAX_ELEMENTS} are the most')


def _check_preprocessing(content: Dict[str, Any]) -> None:
    """Refuse images of another size, and what a library cannot do."""
    settings = content['preprocessing']
    images = content['tensors'].get('images')
    expected = ['batch', 3, *settings['size']]
    if 'video' in settings:
        expected.insert(1, images_of_video(settings['video']))
    if images != expected:
        raise ValueError(f"tensors['images'] must be {expected}, with the "
                         f'{settings["size"]} of preprocessing.size, got '
                         f'{images}')
    for index, each in enumerate(settings.get('steps', ())):
        if 'library' in each:
            known = INTERPOLATIONS[each['library']]
            choice(*known)(each['interpolation'],
                           f'preprocessing.steps[{index}].interpolation')


def _check_segments(content: Dict[str, Any]) -> None:
    """Refuse tensors that are not there when they are needed."""
    known, tensors = {'images'}, content['tensors']
    logits = ['batch', len(content['classes'])]
    for index, segment in enumerate(content['segments']):
        place = f'segments[{index}]'
        for name in segment['inputs']:
            if name not in known:
                raise ValueError(f'{place}.inputs has {name!r}, which no '
                                 f'earlier segment returns')
        for name in segment['outputs']:
            if name in known:
                raise ValueError(f'{place}.outputs has {name!r}, which there '
                                 f'is already')
            if name not in tensors:
                raise ValueError(f'tensors has no {name!r}')
            known.add(name)
        if len(set(segment['inputs'])) != len(segment['inputs']):
            raise ValueError(f'{place}.inputs has a tensor twice')
        first = tensors[segment['outputs'][0]]
        if first != logits:
            raise ValueError(
                f'{place}.outputs must begin with logits of the shape '
                f'{logits}, one for each of the classes, got {first}')
    files = [segment['file'] for segment in content['segments']]
    if sorted(files) != sorted(content['sha256']):
        raise ValueError('sha256 must have each file of the segments once')
    if set(tensors) != known:
        extra = ', '.join(sorted(set(tensors) - known)[:4])
        raise ValueError(f'tensors has {extra}, which no segment returns')
