# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""From a recognizer's test pipeline to the settings of the preprocessing."""
from typing import Any, Dict, List, Mapping, Optional, Sequence

from .pipeline import (network_size, pair, read_channels, read_how,
                       short_and_long, transform_name)

__all__ = ['CROPS', 'images_of_video', 'is_video', 'read_video_preprocessing']

# Crops that ThreeCrop makes of a frame.
CROPS = 3
# Transforms that leave the frames as they are, or decode them all alike.
IGNORED = ('DecordInit', 'DecordDecode', 'OpenCVInit', 'OpenCVDecode',
           'PyAVInit', 'PyAVDecode', 'RawFrameDecode', 'FormatShape',
           'PackActionInputs')


def images_of_video(video: Mapping[str, Any]) -> int:
    """How many images are made of a video: of each crop, clip and sample."""
    return video['num_clips'] * (2 if video.get('twice_sample') else 1) * \
        (CROPS if video.get('crops') else 1)


def is_video(pipeline: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a test pipeline is one for videos."""
    return any(
        transform_name(transform) == 'SampleFrames' for transform in pipeline)


def read_video_preprocessing(
        pipeline: Sequence[Mapping[str, Any]],
        data_preprocessor: Mapping[str, Any],
        size: Optional[Sequence[int]] = None) -> Dict[str, Any]:
    """Read what :class:`VideoPreprocessing` takes from a config.

    Arguments, results and errors are those of
    :func:`mmdynperceiver.deploy.pipeline.read_preprocessing`.
    """
    video: Dict[str, Any] = {}
    steps: List[Dict[str, Any]] = []
    found = None
    for transform in pipeline:
        name = transform_name(transform)
        if name == 'SampleFrames':
            video.update(_read_sampling(transform))
        elif name == 'RequireFrames':
            video['min_frames'] = int(transform.get('min_frames', 1))
        elif video.get('crops') and name not in IGNORED:
            raise ValueError(f'{name} behind ThreeCrop cannot be exported')
        elif name == 'ThreeCrop':
            found = video['crops'] = pair(transform['crop_size'])
        elif name == 'Resize':
            steps.append(_read_resize(transform))
            # One edge alone fixes no size.
            found = steps[-1]['size'] if steps[-1]['kind'] == 'resize' else \
                None
        elif name == 'CenterCrop':
            found = pair(transform['crop_size'])
            steps.append(dict(kind='center_crop', size=found, rounds='down'))
        elif name not in IGNORED:
            raise ValueError(
                f'the test pipeline has the transform {name!r}, which cannot '
                f'be exported; these can: SampleFrames, RequireFrames, '
                f'Resize, CenterCrop, ThreeCrop, and those that decode')
        _check_alike(name, transform)
    return dict(
        size=network_size(found, size),
        decoder='cv2',
        steps=steps,
        video=video,
        **_read_normalisation(data_preprocessor))


def _check_alike(name: str, settings: Mapping[str, Any]) -> None:
    """Refuse what would give other frames."""
    for option, only in (('mode', 'accurate'), ('input_format', 'NCHW'),
                         ('lazy', False), ('collapse', False)):
        if settings.get(option, only) != only:
            raise ValueError(f'{name} must have {option}={only!r} to be '
                             f'exported, got {settings[option]!r}')


def _read_sampling(settings: Mapping[str, Any]) -> Dict[str, Any]:
    """SampleFrames: one frame of each clip."""
    if settings.get('clip_len') != 1 or not settings.get('test_mode') or \
            settings.get('temporal_jitter'):
        raise ValueError(
            f'SampleFrames must have clip_len=1, test_mode=True and no '
            f'temporal_jitter to be exported, got '
            f'clip_len={settings.get("clip_len")}, '
            f'test_mode={settings.get("test_mode", False)} and '
            f'temporal_jitter={settings.get("temporal_jitter", False)}')
    return dict(
        num_clips=int(settings.get('num_clips', 1)),
        twice_sample=bool(settings.get('twice_sample')))


def _read_resize(settings: Mapping[str, Any]) -> Dict[str, Any]:
    """Resize, to a size or inside one."""
    scale = settings.get('scale')
    if not isinstance(scale, (list, tuple)):
        raise ValueError(f'Resize must have two numbers as scale to be '
                         f'exported, got {scale!r}')
    how = read_how(settings)
    if not settings.get('keep_ratio', True):
        return dict(kind='resize', size=pair(scale), **how)
    return dict(kind='resize_inside', **short_and_long(scale), **how)


def _read_normalisation(settings: Mapping[str, Any]) -> Dict[str, Any]:
    """Mean, deviation and order of the channels."""
    kind = str(settings.get('type',
                            'ActionDataPreprocessor')).rpartition('.')[2]
    shape = settings.get('format_shape', 'NCHW')
    if kind != 'ActionDataPreprocessor' or shape != 'NCHW':
        raise ValueError(f'only an ActionDataPreprocessor of the shape NCHW '
                         f'can be exported, got {kind} with '
                         f'format_shape={shape!r}')
    # What decodes gives RGB, and this option turns the channels around.
    return read_channels(settings, 'bgr' if settings.get('to_rgb') else 'rgb')
