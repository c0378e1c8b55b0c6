# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""From an image file, or an image in memory, to RGB pixels."""
import importlib
import io
import os
from typing import Any, Optional, Union

import numpy as np

from ..datasets.image_files import (MAX_PIXELS_VARIABLE, TooManyPixelsError,
                                    check_pixels, max_pixels)
from ..io.describe import describe, is_kind, one_line

__all__ = ['DECODERS', 'check_header', 'decode', 'import_library', 'to_pixels']

# A file, or what is in one.
Source = Union[str, bytes]

DECODERS = ('pillow', 'cv2')
# Their packages, by their modules.
PACKAGES = dict(
    PIL='Pillow: pip install pillow',
    cv2='OpenCV: pip install opencv-python-headless')


def decode(path: Source,
           decoder: str,
           limit: Optional[int] = None) -> np.ndarray:
    """Decode a file, or the bytes of one, with 'pillow' or 'cv2'.

    To RGB pixels (H, W, 3), uint8.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If the library is missing.
        ValueError: If it cannot be decoded, or has more pixels than ``limit``
            or else :func:`mmdynperceiver.datasets.image_files.max_pixels`.
    """
    if isinstance(path, str) and not os.path.isfile(path):
        raise FileNotFoundError(f'there is no image file {path!r}')
    library = import_library('cv2' if decoder == 'cv2' else 'PIL.Image')
    limit = max_pixels() if limit is None else limit
    try:
        if decoder == 'cv2':
            return _by_cv2(library, path, limit)
        with _open(library, path, limit) as opened:
            return _rgb(opened)
    except TooManyPixelsError:
        raise
    except Exception as error:  # decoders raise whatever they like
        raise ValueError(
            f'cannot read {_name(path)}: {one_line(error)}') from error


def _name(path: Source) -> str:
    """What to call an image in messages."""
    if isinstance(path, str):
        return f'the image {path!r}'
    return f'the image of {len(path):,} bytes'


def check_header(path: Source, limit: Optional[int] = None) -> None:
    """Refuse a file that says of itself that it is too large to decode.

    If Pillow does not know it, nothing is said; see :func:`decode`.
    """
    pil = import_library('PIL.Image', needed=False)
    limit = max_pixels() if limit is None else limit
    if pil is None:
        return
    try:
        _open(pil, path, limit).close()
    except TooManyPixelsError:
        raise
    except Exception:  # other decoders know formats that Pillow does not
        pass


def to_pixels(image: Any) -> np.ndarray:
    """The pixels of an image in memory: RGB (H, W, 3), uint8.

    Args:
        image (PIL.Image.Image | ndarray): An image of Pillow, turned as its
            EXIF data say, or such pixels.

    Raises:
        TypeError: If it is neither.
        ValueError: If it does not hold the pixels of one image.
    """
    if is_kind(image, 'pillow'):
        try:
            return _rgb(image)
        except Exception as error:  # opened images are decoded only here
            file = getattr(image, 'filename', '')
            name = f'the PIL image {file!r}' if file else describe(image)
            raise ValueError(
                f'cannot read {name}: {one_line(error)}') from error
    if not is_kind(image, 'array'):
        more = '; Runner.predict takes normalised batches, as arrays: ' \
            'tensor.numpy()' if is_kind(image, 'tensor') else ''
        raise TypeError(f'an image must be a path, a PIL image or an array of '
                        f'RGB pixels, got {describe(image)}{more}')
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(
            f'an array must hold the RGB pixels (H, W, 3) of one image as '
            f'uint8, got {describe(image)}{_advice(image)}')
    return image


def _advice(image: np.ndarray) -> str:
    """What to do with an array that is no image."""
    shape = image.shape
    if image.ndim == 4:
        return ': give a batch as a list of images; Runner.predict takes ' \
               'normalised batches'
    if image.ndim == 3 and shape[2] != 3 and shape[0] == 3:
        return ': put the channels last by image.transpose(1, 2, 0)'
    if image.ndim == 3 and shape[2] == 4:
        return ': leave out the transparency by image[..., :3]'
    if image.ndim == 2 or image.ndim == 3 and shape[2] == 1:
        return ': repeat a grey image by np.stack([image.squeeze()] * 3, -1)'
    if image.dtype != np.uint8 and image.ndim == 3:
        return ': give the pixels from 0 to 255 as they are, ' \
               'image.astype(np.uint8); they are normalised here'
    return ''


def _open(pil: Any, path: Source, limit: int) -> Any:
    """Open a file with Pillow: read its header, and check the size."""
    # Pillow's own limit holds for the whole process, and so does ours.
    if pil.MAX_IMAGE_PIXELS is not None and limit > 2 * pil.MAX_IMAGE_PIXELS:
        pil.MAX_IMAGE_PIXELS = limit
    try:
        opened = pil.open(path if isinstance(path, str) else io.BytesIO(path))
    except pil.DecompressionBombError as error:
        raise TooManyPixelsError(
            f'cannot read {_name(path)}: {one_line(error)} Raise the limit '
            f'by {MAX_PIXELS_VARIABLE}') from error
    except pil.UnidentifiedImageError:
        if isinstance(path, str):
            raise
        # Its message would name an object of Python.
        raise ValueError('Pillow finds no image in it') from None
    try:
        check_pixels(_name(path), opened.size, limit)
    except TooManyPixelsError:
        opened.close()
        raise
    return opened


def _rgb(opened: Any) -> np.ndarray:
    """The pixels of an image of Pillow."""
    image = import_library('PIL.ImageOps').exif_transpose(opened)
    if image.mode == 'LA':
        # Black would hide dark objects on a transparent ground; the colour
        # is that of mmcv.
        rgba = image.convert('RGBA')
        image = import_library('PIL.Image').new('RGB', rgba.size,
                                                (124, 117, 104))
        image.paste(rgba, mask=rgba.getchannel('A'))
    return np.array(image.convert('RGB'))


def _by_cv2(cv2: Any, path: Source, limit: int) -> np.ndarray:
    """Decode with OpenCV; the header is read by Pillow if it is there."""
    check_header(path, limit)
    content = np.fromfile(path, np.uint8) if isinstance(path, str) else \
        np.frombuffer(path, np.uint8)
    pixels = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    if pixels is None:
        raise ValueError('OpenCV finds no image in it')
    check_pixels(_name(path), pixels.shape[1::-1], limit)
    return pixels[..., ::-1]


def import_library(module: str, needed: bool = True) -> Any:
    """A module of Pillow or OpenCV; None if it is neither needed nor there."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if not needed:
            return None
        raise ImportError(f'this network reads or resizes its images with '
                          f'{PACKAGES[module.partition(".")[0]]}') from error
