# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What a manifest must hold for its network to run.

The schema is made of what :mod:`mmdynperceiver.deploy.schema_checks` has.
"""
import math
from typing import Any, Dict

from .detection_schema import (DETECTION, FILE, GRAPH, MAX_EDGE, NAME,
                               check_detection)
from .pipeline import INTERPOLATIONS
from .policy import Policy
from .schema_checks import (anything, choice, fits, list_of, map_of, number,
                            optional, record, text, whole)
from .video_pipeline import images_of_video

__all__ = ['check_manifest']

# Of one sample: 1 GiB in float32.
MAX_ELEMENTS = 1 << 28


def step(value: Any, place: str) -> None:
    """A step of the preprocessing."""
    kind: Any = value.get('kind') if isinstance(value, dict) else None
    choice(*STEPS)(kind, f'{place}.kind')
    STEPS[kind](value, place)


EDGE = whole(1, MAX_EDGE)
SIZE = list_of(EDGE, 2, 2)
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
        segments=list_of(GRAPH, 1, 64),
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
                video=VIDEO,
                padding=whole(1, MAX_EDGE))),
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
        certificate=optional(CERTIFICATE),
        detection=optional(DETECTION)))


def check_manifest(content: Any) -> None:
    """Refuse a manifest that no runner can work with.

    Args:
        content (Any): What the file holds, but its own checksum.

    Raises:
        ValueError: If something is missing, unknown, of another type or out
            of range, or if two things do not fit together.
    """
    MANIFEST(content, '')
    detection = content.get('detection')
    for name, value in content['tensors'].items():
        _check_shape(f'tensors[{name!r}]', value, detection is not None)
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
    learned = content['policy'].get('criterion') == 'learned'
    if learned and detection is None:
        raise ValueError("policy: the criterion 'learned' is one of detectors")


def _check_shape(place: str, shape: Any, any_size: bool) -> None:
    """Refuse what is not 'batch' and sizes; maps may have ``any_size``."""
    if shape[0] != 'batch':
        raise ValueError(f"{place}[0] must be 'batch', got {shape[0]!r}")
    if any_size and len(shape) == 4 and shape[2:] == [None, None]:
        shape = shape[:2]
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
    if content.get('detection') is not None:
        expected = ['batch', 3, None, None]
    if (content.get('detection') is None) == ('padding' in settings):
        raise ValueError('preprocessing.padding is there for detectors, and '
                         'for these alone')
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
    detection = content.get('detection')
    logits = ['batch', len(content['classes']) if detection is None else 1]
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
    graphs = list(content['segments'])
    if detection is not None:
        check_detection(content, detection, known)
        graphs += [*detection['fills'], detection['head']]
    files = [graph['file'] for graph in graphs]
    if sorted(files) != sorted(content['sha256']):
        raise ValueError('sha256 must have each file of the segments once')
    if set(tensors) != known:
        extra = ', '.join(sorted(set(tensors) - known)[:4])
        raise ValueError(f'tensors has {extra}, which no segment returns')
