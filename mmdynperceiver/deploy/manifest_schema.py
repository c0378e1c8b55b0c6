# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What a manifest must hold for its network to run."""
from math import prod
from typing import Any, Dict

from .pipeline import INTERPOLATIONS
from .policy import Policy
from .schema import (anything, choice, list_of, map_of, number, optional,
                     record, text, variants, whole)

__all__ = ['check_manifest']

MAX_EXITS = 64
MAX_EDGE = 1 << 14
# Of one sample: 1 GiB in float32.
MAX_ELEMENTS = 1 << 28
MAX_MACS = 1 << 62

EDGE = whole(1, MAX_EDGE)
SIZE = list_of(EDGE, 2, 2)
NAME = text(r'\w[\w.:/-]{0,200}', 'the name of a tensor')
FILE = text(r'\w[\w.-]{0,200}\.onnx', 'the name of an .onnx file in the '
            'folder, without a path')
NOTES = optional(map_of(text(), anything))
RESIZE = dict(
    kind=anything,
    library=choice(*INTERPOLATIONS),
    interpolation=choice(*sorted(set().union(*INTERPOLATIONS.values()))))
PREPROCESSING = record(
    dict(
        size=SIZE,
        mean=list_of(number(-1e6, 1e6), 3, 3),
        std=list_of(number(1e-6, 1e6), 3, 3)),
    dict(
        decoder=choice(*INTERPOLATIONS),
        channels=choice('rgb', 'bgr'),
        steps=list_of(
            variants(
                'kind',
                dict(
                    resize=record(dict(size=SIZE, **RESIZE)),
                    resize_edge=record(
                        dict(
                            size=EDGE,
                            edge=choice('short', 'long', 'width', 'height'),
                            **RESIZE)),
                    center_crop=record(dict(kind=anything, size=SIZE)))))))
SETTING = number(0, 1e6)
MANIFEST = record(
    dict(
        format=whole(1, 1),
        segments=list_of(
            record(
                dict(
                    file=FILE,
                    inputs=list_of(NAME, 1),
                    outputs=list_of(NAME, 1))), 1, MAX_EXITS),
        # The shapes begin with the text 'batch'.
        tensors=map_of(NAME, list_of(anything, 2, 8)),
        preprocessing=PREPROCESSING,
        policy=record({},
                      dict(
                          thresholds=optional(list_of(SETTING)),
                          criterion=text(),
                          temperature=optional(list_of(SETTING)))),
        classes=list_of(text(), 1),
        macs_per_exit=list_of(whole(1, MAX_MACS)),
        sha256=map_of(FILE, text('[0-9a-f]{64}', 'a SHA-256'))),
    dict(
        precision=choice('fp32', 'int8'),
        source=NOTES,
        versions=NOTES,
        quantization=NOTES))


def check_manifest(content: Any) -> None:
    """Refuse a manifest that no runner can work with.

    Args:
        content (Any): What the file holds, but its own checksum.

    Raises:
        ValueError: If something is missing, unknown, of another type or out
            of range, or if two things do not fit together.
    """
    MANIFEST(content, '')
    count = len(content['segments'])
    for name, value in content['tensors'].items():
        _check_shape(name, value)
    _check_preprocessing(content)
    _check_segments(content)
    macs = content['macs_per_exit']
    if len(macs) != count or any(b <= a for a, b in zip(macs, macs[1:])):
        raise ValueError(f'macs_per_exit must hold {count} numbers, each '
                         f'larger than the one before, got {macs[:8]}')
    try:
        Policy(count, **content['policy'])
    except (TypeError, ValueError) as error:
        raise ValueError(f'policy: {error}') from error


def _check_shape(name: str, shape: Any) -> None:
    """Refuse what is not 'batch' and sizes."""
    place = f'tensors[{name!r}]'
    if shape[0] != 'batch':
        raise ValueError(f"{place}[0] must be 'batch', got {shape[0]!r}")
    for index, size in enumerate(shape[1:], 1):
        whole(1, MAX_ELEMENTS)(size, f'{place}[{index}]')
    if prod(shape[1:]) > MAX_ELEMENTS:
        raise ValueError(f'{place} has {prod(shape[1:])} elements for each '
                         f'sample; {MAX_ELEMENTS} are the most')


def _check_preprocessing(content: Dict[str, Any]) -> None:
    """Refuse images of another size, and what a library cannot do."""
    settings = content['preprocessing']
    images = content['tensors'].get('images')
    if images is None or images[1:] != [3, *settings['size']]:
        raise ValueError(f"tensors['images'] must be ['batch', 3, height, "
                         f'width] with the {settings["size"]} of '
                         f'preprocessing.size, got {images}')
    for index, step in enumerate(settings.get('steps', ())):
        if 'library' in step:
            known = INTERPOLATIONS[step['library']]
            choice(*known)(step['interpolation'],
                           f'preprocessing.steps[{index}].interpolation')


def _check_segments(content: Dict[str, Any]) -> None:
    """Refuse tensors that are not there when they are needed."""
    files, known, tensors = [], {'images'}, content['tensors']
    logits = ['batch', len(content['classes'])]
    for index, segment in enumerate(content['segments']):
        place = f'segments[{index}]'
        files.append(segment['file'])
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
    if sorted(files) != sorted(content['sha256']):
        raise ValueError('sha256 must have each file of the segments once')
    if set(tensors) != known:
        extra = ', '.join(sorted(set(tensors) - known)[:4])
        raise ValueError(f'tensors has {extra}, which no segment returns')
