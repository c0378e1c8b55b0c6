# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""From a config's test pipeline to the settings of the preprocessing."""
from typing import Any, Dict, List, Mapping, Optional, Sequence

__all__ = [
    'INTERPOLATIONS', 'network_size', 'pair', 'read_channels', 'read_how',
    'read_loader', 'read_preprocessing', 'short_and_long', 'transform_name'
]

# Transforms that leave the pixels as they are.
IGNORED = ('PackInputs', 'Collect')
INTERPOLATIONS = {
    'pillow': ('nearest', 'bilinear', 'bicubic', 'box', 'lanczos', 'hamming'),
    'cv2': ('nearest', 'bilinear', 'bicubic', 'area', 'lanczos')
}


def read_preprocessing(pipeline: Sequence[Mapping[str, Any]],
                       data_preprocessor: Mapping[str, Any],
                       size: Optional[Sequence[int]] = None) -> Dict[str, Any]:
    """Read what :class:`Preprocessing` takes from a config.

    Args:
        pipeline (Sequence[Mapping]): The transforms of the test data.
        data_preprocessor (Mapping): The model's data preprocessor.
        size (Sequence[int], optional): Height and width of the images that
            the network gets, where the pipeline does not fix them. Defaults
            to None.

    Returns:
        dict: Arguments of :class:`Preprocessing`.

    Raises:
        ValueError: If there is a transform or a setting that only the
            training framework has, or the size is not known or another one.
    """
    decoder, steps, found = 'cv2', [], None
    for transform in pipeline:
        name = transform_name(transform)
        if name == 'LoadImageFromFile':
            decoder = read_loader(transform)
        elif name in READERS:
            steps.append(READERS[name](transform))
            # One edge alone fixes no size.
            found = None if name == 'ResizeEdge' else steps[-1]['size']
        elif name not in IGNORED:
            raise ValueError(
                f'the test pipeline has the transform {name!r}, which cannot '
                f'be exported; these can: LoadImageFromFile, '
                f'{", ".join(READERS)}')
    return dict(
        size=network_size(found, size),
        decoder=decoder,
        steps=steps,
        **_read_normalisation(data_preprocessor))


def transform_name(transform: Mapping[str, Any]) -> str:
    """The type of a transform, without its scope."""
    return str(transform['type']).rpartition('.')[2]


def short_and_long(scale: Sequence[int]) -> Dict[str, Optional[int]]:
    """The most pixels of the shorter and of the longer edge, of a scale that
    keeps the ratio; -1 and a number are for a shorter edge of that length."""
    short, longest = sorted(int(edge) for edge in scale)
    if short == -1:
        return dict(short=longest, long=None)
    return dict(short=short, long=longest)


def network_size(found: Optional[Sequence[int]],
                 size: Optional[Sequence[int]]) -> List[int]:
    """Height and width that the network takes: those that the test pipeline
    makes, or else those given; ValueError, if these are others."""
    fixed = found or size
    if fixed is None:
        raise ValueError(
            "the test pipeline does not give its images a size: say which "
            'one they have with --size HEIGHT WIDTH')
    if found and size and tuple(found) != tuple(size):
        raise ValueError(f'the test pipeline makes images of {found[0]}x'
                         f'{found[1]}, and --size says {size[0]}x{size[1]}')
    return list(fixed)


def read_loader(settings: Mapping[str, Any]) -> str:
    """The library that decodes."""
    decoder = settings.get('imdecode_backend', 'cv2')
    if decoder not in INTERPOLATIONS:
        raise ValueError(f"LoadImageFromFile must decode with 'pillow' or "
                         f"'cv2' to be exported, got {decoder!r}")
    if settings.get('color_type', 'color') != 'color' or \
            settings.get('to_float32'):
        raise ValueError(
            f'LoadImageFromFile must read colour images as uint8 to be '
            f'exported, got color_type={settings.get("color_type")!r} and '
            f'to_float32={settings.get("to_float32")!r}')
    return decoder


def _read_resize(settings: Mapping[str, Any]) -> Dict[str, Any]:
    """Resize: to a width and height."""
    if settings.get('keep_ratio') or settings.get('scale') is None:
        raise ValueError('Resize must have a scale, and no keep_ratio, to be '
                         'exported; ResizeEdge keeps the ratio')
    return dict(
        kind='resize', size=pair(settings['scale']), **read_how(settings))


def _read_resize_edge(settings: Mapping[str, Any]) -> Dict[str, Any]:
    """ResizeEdge: one edge to a length."""
    return dict(
        kind='resize_edge',
        size=int(settings['scale']),
        edge=settings.get('edge', 'short'),
        **read_how(settings))


def _read_center_crop(settings: Mapping[str, Any]) -> Dict[str, Any]:
    """CenterCrop."""
    if settings.get('auto_pad'):
        raise ValueError('CenterCrop with auto_pad cannot be exported')
    return dict(kind='center_crop', size=pair(settings['crop_size']))


def pair(value: Any) -> List[int]:
    """(width, height) or one number -> [height, width]."""
    width, height = (value, value) if isinstance(value, int) else value
    return [int(height), int(width)]


def read_how(settings: Mapping[str, Any]) -> Dict[str, Any]:
    """Library and interpolation of a resize."""
    library = settings.get('backend', 'cv2')
    method = settings.get('interpolation', 'bilinear')
    if method not in INTERPOLATIONS.get(library, ()):
        raise ValueError(f'images cannot be resized by {library!r} with the '
                         f'interpolation {method!r} in an exported network')
    return dict(library=library, interpolation=method)


def _read_normalisation(settings: Mapping[str, Any]) -> Dict[str, Any]:
    """Mean, deviation and order of the channels."""
    kind = str(settings.get('type', 'ClsDataPreprocessor')).rpartition('.')[2]
    divisor = settings.get('pad_size_divisor', 1)
    if kind != 'ClsDataPreprocessor' or divisor != 1:
        raise ValueError(
            f'only a ClsDataPreprocessor without padding can be exported, '
            f'got {kind} with pad_size_divisor={divisor}')
    return read_channels(settings, 'rgb' if settings.get('to_rgb') else 'bgr')


def read_channels(settings: Mapping[str, Any],
                  channels: str) -> Dict[str, Any]:
    """Mean and deviation of a data preprocessor, for channels in an order."""
    found: Dict[str, Any] = dict(mean=[0., 0., 0.], std=[1., 1., 1.])
    if settings.get('mean') is not None:
        for name in found:
            found[name] = [float(value) for value in settings[name]]
            if len(found[name]) != 3:
                raise ValueError(f'{name} must hold one number for each of 3 '
                                 f'channels, got {settings[name]!r}')
    return dict(found, channels=channels)


READERS = dict(
    Resize=_read_resize,
    ResizeEdge=_read_resize_edge,
    CenterCrop=_read_center_crop)
