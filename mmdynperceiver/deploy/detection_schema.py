# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What a manifest must hold of graphs, and of what follows the segments of a
detector."""
from typing import Any, Dict, Set

from .schema_checks import list_of, number, record, text, whole

__all__ = ['DETECTION', 'FILE', 'GRAPH', 'MAX_EDGE', 'NAME', 'check_detection']

MAX_EDGE = 1 << 14
NAME = text(r'\w[\w.:/-]{0,200}', 'the name of a tensor')
FILE = text(
    r'\w[\w.-]{0,200}\.(onnx|tflite)', 'the name of an .onnx or '
    '.tflite file in the folder, without a path')
GRAPH = record(
    dict(file=FILE, inputs=list_of(NAME, 1), outputs=list_of(NAME, 1)))
COORDINATE = number(-1e6, 1e6)
BOXES = record(
    dict(
        num_classes=whole(1, 1 << 20),
        anchors=list_of(list_of(list_of(COORDINATE, 4, 4), 1), 1),
        strides=list_of(list_of(number(1, MAX_EDGE), 2, 2)),
        means=list_of(COORDINATE, 4, 4),
        stds=list_of(number(1e-6, 1e6), 4, 4),
        max_ratio=number(0, 1e2),
        score_thr=number(0, .999999),
        nms_pre=whole(1, 1 << 30),
        iou_threshold=number(0, 1),
        max_per_img=whole(1, 1 << 30),
        min_bbox_size=COORDINATE))
DETECTION = record(
    dict(
        fills=list_of(GRAPH),
        head=GRAPH,
        levels=list_of(list_of(NAME)),
        boxes=BOXES))


def check_detection(content: Dict[str, Any], detection: Dict[str, Any],
                    known: Set[str]) -> None:
    """Refuse what cannot follow the segments; its tensors become known."""
    head, boxes = detection['head'], detection['boxes']
    count = len(content['segments'])
    for index, fill in enumerate(detection['fills']):
        if not known.issuperset(fill['inputs']):
            raise ValueError(f'detection.fills[{index}].inputs has a tensor '
                             f'that no segment returns')
        known.update(fill['outputs'])
    known.update(('images', *head['inputs'], *head['outputs']))
    levels, exits = len(boxes['anchors']), len(detection['levels'])
    for name, found, expected in (('fills', len(detection['fills']),
                                   count - 1), ('levels', exits, count),
                                  ('boxes.strides', len(boxes['strides']),
                                   levels), ('head.outputs',
                                             len(head['outputs']), 2 * levels),
                                  ('boxes.num_classes', boxes['num_classes'],
                                   len(content['classes']))):
        if found != expected:
            raise ValueError(f'detection.{name} must be, or hold, {expected}, '
                             f'got {found}')
    for index, names in enumerate(detection['levels']):
        if len(names) != len(head['inputs']) or not known.issuperset(names):
            raise ValueError(f'detection.levels[{index}] must name a tensor '
                             f'for each input of the head, got {names}')
    for name in known - set(content['tensors']):
        raise ValueError(f'tensors has no {name!r}')
