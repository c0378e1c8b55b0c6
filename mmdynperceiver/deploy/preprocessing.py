# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""From an image file to normalised pixels, as in the test pipeline."""
import math
import os
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from ..datasets.image_files import (EXTENSIONS, IMAGES, check_pixels,
                                    list_images)
from ..io.describe import describe, is_kind, one_line
from .decoding import DECODERS, decode, import_library, to_pixels
from .policy import all_finite

__all__ = [
    'DECODERS', 'EXTENSIONS', 'Image', 'Preprocessing', 'STEPS', 'check_batch',
    'check_takes_images', 'is_image', 'list_images', 'pad_to'
]

# Or an image of Pillow, which need not be there.
Image = Union[str, os.PathLike, bytes, np.ndarray]


def pad_to(size: Sequence[int], padding: int) -> Tuple[int, int]:
    """Height and width as the next multiples of a number."""
    height, width = (-(-int(length) // padding) * padding for length in size)
    return height, width


def is_image(value: Any) -> bool:
    """Whether something is one image: a path, the bytes of a file, an array
    or a PIL image."""
    return isinstance(value, (str, os.PathLike, bytes, np.ndarray)) or \
        is_kind(value, 'pillow') or is_kind(value, 'tensor')


def check_batch(batch: Any, shape: Sequence[int]) -> None:
    """Refuse what is not float32 (B, *shape) of finite numbers."""
    if not isinstance(batch, np.ndarray) or batch.dtype != np.float32:
        advice = 'runner.preprocessing.batch(images) makes one of files, ' \
                 'PIL images and pixels'
        if is_kind(batch, 'tensor'):
            advice = 'tensor.float().cpu().numpy() makes one of it'
        elif isinstance(batch, np.ndarray) and batch.dtype.kind == 'f':
            advice = 'batch.astype(np.float32) makes one of it'
        raise TypeError(f'a batch must be a NumPy array of normalised pixels '
                        f'as float32, got {describe(batch)}: {advice}')
    if batch.shape[1:] != tuple(shape) or not len(batch):
        advice = ''
        if batch.shape == tuple(shape):
            advice = ': batch[None] makes a batch of one ' \
                f'{"image" if len(shape) == 3 else "video"}'
        elif batch.ndim == len(shape) + 1 and batch.shape[-1] == 3:
            advice = ': batch.transpose(0, 3, 1, 2) puts the channels first' \
                if batch.ndim == 4 else \
                ': np.moveaxis(batch, -1, -3) puts the channels first'
        raise ValueError(f'a batch must have the shape (B, '
                         f'{", ".join(map(str, shape))}) with B of at least '
                         f'1, got {batch.shape}{advice}')
    # Some layers turn NaN into 0, and then into an answer.
    if not all_finite(batch):
        raise ValueError(
            f'a batch must hold finite numbers, got NaN or infinity in the '
            f'{"images" if batch.ndim == 4 else "videos"} '
            f'{np.flatnonzero(~_finite_samples(batch))}')


def _finite_samples(batch: np.ndarray) -> np.ndarray:
    """Which samples of a batch hold finite numbers alone (B,)."""
    return np.isfinite(batch).all(tuple(range(1, batch.ndim)))


def check_takes_images(preprocessing: 'Preprocessing', folder: str) -> None:
    """Refuse a network for something else, which the Runner alone runs."""
    if preprocessing.files is not IMAGES:
        raise ValueError(
            f'images are due, and the network in {folder!r} takes '
            f'{preprocessing.files.noun}s: python -m '
            f'mmdynperceiver.deploy runs it')


class Preprocessing:
    """Decode, resize, crop and normalise.

    Args:
        size (Sequence[int]): Height and width that the network takes.
        mean (Sequence[float]): Subtracted from the pixels of 0 to 255.
        std (Sequence[float]): What they are then divided by.
        decoder (str): Library that reads files, 'pillow' or 'cv2'. Defaults
            to 'pillow'.
        steps (Sequence[Mapping]): In order: ``kind`` 'resize' (``size``:
            height, width), 'resize_edge' (``size``, and ``edge`` 'short',
            'long', 'width' or 'height'), both with ``interpolation`` and
            ``library``; 'resize_inside' with the same (``short`` and
            ``long``, most pixels of either edge, ``long`` or None); or
            'center_crop' (``size``: height, width, and ``rounds`` 'down'
            where half a pixel is not rounded). Defaults to none.
        channels (str): Order of the channels that the network takes, 'rgb'
            or 'bgr'; ``mean`` and ``std`` have the same. Defaults to 'rgb'.

    Attributes:
        files (FileKind): Those of samples: images, or videos in a subclass.
        max_pixels (int, optional): Larger files are refused before they are
            decoded; None, at what the environment variable
            ``MMDYNPERCEIVER_MAX_PIXELS`` says, or else 178,956,970.
    """

    files = IMAGES

    def __init__(self,
                 size: Sequence[int],
                 mean: Sequence[float],
                 std: Sequence[float],
                 decoder: str = 'pillow',
                 steps: Sequence[Mapping[str, Any]] = (),
                 channels: str = 'rgb') -> None:
        self.size = (int(size[0]), int(size[1]))
        self.mean = np.asarray(mean, np.float32).reshape(3, 1, 1)
        self.std = np.asarray(std, np.float32).reshape(3, 1, 1)
        self.decoder = decoder
        self.steps = [dict(step) for step in steps]
        self.channels = channels
        self.max_pixels: Optional[int] = None

    def __call__(self, image: Image) -> np.ndarray:
        """Prepare one image.

        Args:
            image (str | PathLike | bytes | PIL.Image.Image | ndarray): A
                file, what is in one, an image of Pillow, or RGB pixels (H,
                W, 3), uint8.

        Returns:
            ndarray: Normalised pixels (3, H, W), float32.

        Raises:
            FileNotFoundError: If there is no such file.
            ImportError: If the library that the pipeline uses is missing.
            TypeError: If it is no image.
            ValueError: If the file or the image cannot be read or has too
                many pixels, the array is none, or the result has another
                size than the network takes.
        """
        pixels, name = self.pixels(image)
        return self.normalised(self.resized(pixels, name), name)

    def listed(self, images: Any) -> List[Image]:
        """What is given as a list: one sample, a folder of them, or many of
        both."""
        found: List[Image] = []
        for item in [images] if is_image(images) else images:
            if isinstance(item, (str, os.PathLike)) and os.path.isdir(item):
                found += list_images(item, self.files)
            else:
                found.append(item)
        return found

    def pixels(self, image: Image) -> Tuple[np.ndarray, str]:
        """The RGB pixels (H, W, 3) of an image, uint8, and what to call it;
        see ``__call__``."""
        if isinstance(image, (str, os.PathLike, bytes)):
            name = 'the image' if isinstance(image, bytes) else \
                repr(os.fspath(image))
            return self.read(image), name
        return to_pixels(image), describe(image)

    def resized(self, pixels: np.ndarray, name: str) -> np.ndarray:
        """Pixels (H, W, 3) after all steps; ``name`` is for messages."""
        try:
            for step in self.steps:
                pixels = STEPS[step['kind']](pixels, step)
        except ImportError:
            raise
        except Exception as error:  # libraries raise whatever they like
            raise ValueError(f'cannot resize or crop {name}: '
                             f'{one_line(error)}') from error
        return pixels

    def normalised(self, pixels: np.ndarray, name: str) -> np.ndarray:
        """What the network takes (3, H, W), of resized pixels."""
        if pixels.shape[:2] != self.size:
            raise ValueError(
                f'{name} is {pixels.shape[0]}x{pixels.shape[1]} after the '
                f"test pipeline, and the network takes {self.size[0]}x"
                f'{self.size[1]} (height x width): resize it before')
        return self.scaled(pixels)

    def scaled(self, pixels: np.ndarray) -> np.ndarray:
        """Normalised pixels (3, H, W), float32, of resized ones."""
        if self.channels == 'bgr':
            pixels = pixels[..., ::-1]
        chw = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        return (chw.astype(np.float32) - self.mean) / self.std

    def batch(self, images: Sequence[Image]) -> np.ndarray:
        """Prepare several images: (B, 3, H, W), float32; see ``__call__``."""
        return np.stack([self(image) for image in images])

    def read(self, path: Union[str, os.PathLike, bytes]) -> np.ndarray:
        """Decode a file, or what is in one, to RGB pixels (H, W, 3), uint8;
        see ``__call__``."""
        source = path if isinstance(path, bytes) else os.fspath(path)
        return decode(source, self.decoder, self.max_pixels)


def _resize(pixels: np.ndarray, step: Dict[str, Any]) -> np.ndarray:
    """Resize to a height and width."""
    height, width = step['size']
    # A short edge of one pixel makes the other one very long.
    check_pixels('it when resized', (width, height))
    pixels = np.ascontiguousarray(pixels)
    method = step['interpolation'].upper()
    if step['library'] == 'cv2':
        cv2 = import_library('cv2')
        method = dict(
            BILINEAR='LINEAR', BICUBIC='CUBIC',
            LANCZOS='LANCZOS4').get(method, method)
        return cv2.resize(
            pixels, (width, height),
            interpolation=getattr(cv2, f'INTER_{method}'))
    pil = import_library('PIL.Image')
    return np.asarray(
        pil.fromarray(pixels).resize((width, height), pil.Resampling[method]))


def _resize_edge(pixels: np.ndarray, step: Dict[str, Any]) -> np.ndarray:
    """Resize so that one edge has a length; the other one is rounded down."""
    height, width = pixels.shape[:2]
    size, edge = step['size'], step['edge']
    by_width = dict(
        width=True, height=False, short=width < height, long=width > height)
    target = (int(size * height / width), size) if by_width[edge] else \
        (size, int(size * width / height))
    return _resize(pixels, dict(step, size=target))


def _resize_inside(pixels: np.ndarray, step: Dict[str, Any]) -> np.ndarray:
    """Resize as large as edges of these lengths allow; the ratio stays."""
    height, width = pixels.shape[:2]
    factor = step['short'] / min(height, width)
    if step['long'] is not None:
        factor = min(step['long'] / max(height, width), factor)
    size = [int(length * factor + 0.5) for length in (height, width)]
    return _resize(pixels, dict(step, size=size))


def _center_crop(pixels: np.ndarray, step: Dict[str, Any]) -> np.ndarray:
    """Cut out the centre; what is smaller stays."""
    half = math.floor if step.get('rounds') == 'down' else round
    top, left = (max(0, half((have - want) / 2))
                 for have, want in zip(pixels.shape, step['size']))
    height, width = step['size']
    return pixels[top:top + height, left:left + width]


STEPS = dict(
    resize=_resize,
    resize_edge=_resize_edge,
    resize_inside=_resize_inside,
    center_crop=_center_crop)
