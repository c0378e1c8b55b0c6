# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""From a detector's test pipeline to the settings of the preprocessing."""
from typing import Any, Dict, List, Mapping, Optional, Sequence

from .pipeline import (network_size, pair, read_channels, read_how,
                       read_loader, short_and_long, transform_name)

__all__ = ['is_detection', 'read_detection_preprocessing']

# Transforms that leave the pixels as they are.
IGNORED = ('LoadAnnotations', 'PackDetInputs')


def is_detection(pipeline: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a test pipeline is one for a detector."""
    return any(transform_name(one) == 'PackDetInputs' for one in pipeline)


def read_detection_preprocessing(
        pipeline: Sequence[Mapping[str, Any]],
        data_preprocessor: Mapping[str, Any],
        size: Optional[Sequence[int]] = None) -> Dict[str, Any]:
    """Read what :class:`DetectionPreprocessing` takes from a config.

    Arguments, results and errors are those of
    :func:`mmdynperceiver.deploy.pipeline.read_preprocessing`; the size is the
    largest that images get, and they may have any.
    """
    decoder, found = 'cv2', None
    steps: List[Dict[str, Any]] = []
    for transform in pipeline:
        name = transform_name(transform)
        if name == 'LoadImageFromFile':
            decoder = read_loader(transform)
        elif name == 'Resize':
            steps.append(_read_resize(transform))
            found = pair(transform['scale'])
        elif name not in IGNORED:
            raise ValueError(
                f'the test pipeline has the transform {name!r}, which cannot '
                f'be exported; these can: LoadImageFromFile, Resize')
    kind = str(data_preprocessor.get('type', '')).rpartition('.')[2]
    if kind != 'DetDataPreprocessor' or data_preprocessor.get('pad_value'):
        raise ValueError(f'only a DetDataPreprocessor that pads with 0 can '
                         f'be exported, got {kind or None} with pad_value='
                         f'{data_preprocessor.get("pad_value", 0)}')
    channels = 'rgb' if data_preprocessor.get('bgr_to_rgb') else 'bgr'
    return dict(
        size=network_size(found, size),
        decoder=decoder,
        steps=steps,
        padding=int(data_preprocessor.get('pad_size_divisor', 1)),
        **read_channels(data_preprocessor, channels))


def _read_resize(settings: Mapping[str, Any]) -> Dict[str, Any]:
    """Resize, to a size or inside one."""
    scale = settings.get('scale')
    if not isinstance(scale, (list, tuple)):
        raise ValueError(f'Resize must have two numbers as scale to be '
                         f'exported, got {scale!r}')
    if not settings.get('keep_ratio'):
        return dict(kind='resize', size=pair(scale), **read_how(settings))
    return dict(
        kind='resize_inside', **short_and_long(scale), **read_how(settings))
