# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""From an image file to normalised pixels, as in the test pipeline."""
import os
from typing import Any, Dict, List, Mapping, Sequence, Tuple, Union

import numpy as np

__all__ = ['EXTENSIONS', 'Image', 'Preprocessing', 'list_images']

EXTENSIONS = ('.bmp', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff',
              '.webp')
Image = Union[str, os.PathLike, np.ndarray]


def list_images(folder: Union[str, os.PathLike]) -> List[str]:
    """The image files in a folder and below it, sorted.

    Args:
        folder (str | PathLike): The folder.

    Raises:
        FileNotFoundError: If there is none.
    """
    folder = os.fspath(folder)
    found = sorted(
        os.path.join(root, name) for root, _, names in os.walk(folder)
        for name in names if name.lower().endswith(EXTENSIONS))
    if not found:
        raise FileNotFoundError(
            f'there is no image in {folder!r} or below it (looked for '
            f'{", ".join(EXTENSIONS)})')
    return found


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
            ``library``, or 'center_crop' (``size``: height, width). Defaults
            to none.
        channels (str): Order of the channels that the network takes, 'rgb'
            or 'bgr'; ``mean`` and ``std`` have the same. Defaults to 'rgb'.
    """

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

    def __call__(self, image: Image) -> np.ndarray:
        """Prepare one image.

        Args:
            image (str | PathLike | ndarray): A file, or RGB pixels
                (H, W, 3), uint8.

        Returns:
            ndarray: Normalised pixels (3, H, W), float32.

        Raises:
            FileNotFoundError: If there is no such file.
            ImportError: If the library that the pipeline uses is missing.
            TypeError: If it is neither a file nor an array.
            ValueError: If the file is no image, the array is none, or the
                result has another size than the network takes.
        """
        name = f'the array {getattr(image, "shape", "")}'
        if isinstance(image, (str, os.PathLike)):
            name = repr(os.fspath(image))
            pixels = self.read(image)
        elif isinstance(image, np.ndarray):
            pixels = _check_array(image)
        else:
            raise TypeError(f'an image must be a path or an array, got '
                            f'{type(image).__name__}')
        for step in self.steps:
            pixels = STEPS[step['kind']](pixels, step)
        if pixels.shape[:2] != self.size:
            raise ValueError(
                f'{name} is {pixels.shape[0]}x{pixels.shape[1]} after the '
                f"test pipeline, and the network takes {self.size[0]}x"
                f'{self.size[1]} (height x width): resize it before')
        if self.channels == 'bgr':
            pixels = pixels[..., ::-1]
        chw = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        return (chw.astype(np.float32) - self.mean) / self.std

    def batch(self, images: Sequence[Image]) -> np.ndarray:
        """Prepare several images.

        Args:
            images (Sequence[str | PathLike | ndarray]): See ``__call__``.

        Returns:
            ndarray: Normalised pixels (B, 3, H, W), float32.
        """
        return np.stack([self(image) for image in images])

    def read(self, path: Union[str, os.PathLike]) -> np.ndarray:
        """Decode a file to RGB pixels (H, W, 3), uint8; see ``__call__``."""
        path = os.fspath(path)
        if not os.path.isfile(path):
            raise FileNotFoundError(f'there is no image file {path!r}')
        return DECODERS[self.decoder](path)


def _check_array(image: np.ndarray) -> np.ndarray:
    """Refuse what are not the pixels of one colour image."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(
            f'an array must hold the RGB pixels (H, W, 3) of one image as '
            f'uint8, got {image.dtype} {image.shape}')
    return image


def _decode_pillow(path: str) -> np.ndarray:
    """Decode with Pillow."""
    pil, ops = _pillow('Image'), _pillow('ImageOps')
    try:
        with pil.open(path) as opened:
            image = ops.exif_transpose(opened)
            if image.mode == 'LA':
                # Black would hide dark objects on a transparent ground; the
                # colour is that of mmcv.
                rgba = image.convert('RGBA')
                image = pil.new('RGB', rgba.size, (124, 117, 104))
                image.paste(rgba, mask=rgba.getchannel('A'))
            return np.array(image.convert('RGB'))
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f'cannot read the image {path!r}: {error}') from error


def _decode_cv2(path: str) -> np.ndarray:
    """Decode with OpenCV."""
    cv2 = _cv2()
    content = np.fromfile(path, np.uint8)
    pixels = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    if pixels is None:
        raise ValueError(f'cannot read the image {path!r}: OpenCV finds no '
                         f'image in it')
    return pixels[..., ::-1]


def _resize(pixels: np.ndarray, step: Dict[str, Any]) -> np.ndarray:
    """Resize to a height and width."""
    height, width = step['size']
    if step['library'] == 'cv2':
        cv2 = _cv2()
        codes = dict(
            nearest=cv2.INTER_NEAREST,
            bilinear=cv2.INTER_LINEAR,
            bicubic=cv2.INTER_CUBIC,
            area=cv2.INTER_AREA,
            lanczos=cv2.INTER_LANCZOS4)
        return cv2.resize(
            np.ascontiguousarray(pixels), (width, height),
            interpolation=codes[step['interpolation']])
    pil = _pillow('Image')
    method = pil.Resampling[step['interpolation'].upper()]
    image = pil.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((width, height), method))


def _resize_edge(pixels: np.ndarray, step: Dict[str, Any]) -> np.ndarray:
    """Resize so that one edge has a length; the other one is rounded down."""
    height, width = pixels.shape[:2]
    size, edge = step['size'], step['edge']
    by_width = edge == 'width' or (edge == 'short'
                                   and width < height) or (edge == 'long'
                                                           and width > height)
    if by_width:
        target: Tuple[int, int] = (int(size * height / width), size)
    else:
        target = (size, int(size * width / height))
    return _resize(pixels, dict(step, size=target))


def _center_crop(pixels: np.ndarray, step: Dict[str, Any]) -> np.ndarray:
    """Cut out the centre; what is smaller stays."""
    top, left = (max(0, int(round((have - want) / 2)))
                 for have, want in zip(pixels.shape, step['size']))
    height, width = step['size']
    return pixels[top:top + height, left:left + width]


def _pillow(module: str) -> Any:
    """A module of Pillow."""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError('this network reads or resizes its images with '
                          'Pillow: pip install pillow') from error
    return dict(Image=Image, ImageOps=ImageOps)[module]


def _cv2() -> Any:
    """OpenCV."""
    try:
        import cv2
    except ImportError as error:
        raise ImportError(
            'this network reads or resizes its images with OpenCV: '
            'pip install opencv-python-headless') from error
    return cv2


DECODERS = dict(pillow=_decode_pillow, cv2=_decode_cv2)
STEPS = dict(
    resize=_resize, resize_edge=_resize_edge, center_crop=_center_crop)
