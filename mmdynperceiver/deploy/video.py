# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""From a video file to normalised frames, as in the test pipeline."""
import os
from typing import Any, Dict, List, Mapping, Sequence, Tuple, Type

import numpy as np

from ..datasets.image_files import VIDEOS, check_pixels, max_pixels
from ..io.describe import describe, one_line
from .decoding import import_library
from .preprocessing import Image, Preprocessing
from .video_pipeline import CROPS, images_of_video

__all__ = [
    'VideoPreprocessing', 'build_preprocessing', 'frame_numbers',
    'preprocessing_class'
]


def build_preprocessing(settings: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing of images, or of videos, by its arguments."""
    return preprocessing_class(settings)(**settings)


def preprocessing_class(settings: Mapping[str, Any]) -> Type[Preprocessing]:
    """What :func:`build_preprocessing` builds."""
    return VideoPreprocessing if 'video' in settings else Preprocessing


class VideoPreprocessing(Preprocessing):
    """Decode some frames of a video, and prepare each as an image.

    Args:
        video (Mapping): How frames are chosen: ``num_clips``, into how many
            parts of equal length a video is cut, of which each gives its
            middle frame; ``twice_sample``, whether each gives its first one
            as well; ``min_frames``, the fewest of a video; ``crops``, height
            and width of three crops along the longer edge, which take the
            place of each frame.
        **settings: As of :class:`Preprocessing`; no library decodes but
            OpenCV.

    Attributes:
        num_images (int): Number M of images that the network gets of a video.
    """

    files = VIDEOS

    def __init__(self, video: Mapping[str, Any], **settings: Any) -> None:
        super().__init__(**settings)
        self.video = dict(video)
        self.num_images = images_of_video(video)

    def __call__(self, video: Image) -> np.ndarray:
        """Prepare one video.

        Args:
            video (str | PathLike | ndarray): A file, or all its frames as RGB
                pixels (T, H, W, 3), uint8.

        Returns:
            ndarray: Normalised pixels (M, 3, H, W), float32; the frames of a
            crop stand together.

        Raises:
            FileNotFoundError: If there is no such file.
            ImportError: If OpenCV is missing.
            TypeError: If it is no video.
            ValueError: If the file cannot be decoded, it has too few frames
                or too many pixels, or its frames do not become what the
                network takes.
        """
        frames, name = self.frames(video)
        images = [self.resized(frame, name) for frame in frames]
        if self.video.get('crops'):
            images = [
                _crop(image, place, self.video['crops'], name)
                for place in range(CROPS) for image in images
            ]
        return np.stack([self.normalised(image, name) for image in images])

    def frames(self, video: Image) -> Tuple[List[np.ndarray], str]:
        """The frames that are looked at, RGB (H, W, 3), and what to call the
        video; see ``__call__``."""
        if isinstance(video, (str, os.PathLike)):
            return self._decode(os.fspath(video)), repr(os.fspath(video))
        name = describe(video)
        if not isinstance(video, np.ndarray):
            raise TypeError(f'a video must be a path, or an array of RGB '
                            f'pixels (T, H, W, 3), got {name}')
        if video.dtype != np.uint8 or video.ndim != 4 or \
                video.shape[3] != 3 or not video.size:
            raise ValueError(
                f'an array must hold the RGB pixels (T, H, W, 3) of the '
                f'frames of one video as uint8, got {name}'
                f'{": np.stack(frames) makes one" if video.ndim == 3 else ""}')
        return [video[k] for k in self._numbers(len(video), name)], name

    def _numbers(self, total: int, name: str) -> List[int]:
        """Which frames of so many are looked at."""
        fewest = self.video.get('min_frames', 1)
        if total < fewest:
            raise ValueError(f'the video {name} is too short: it has {total} '
                             f'frames, at least {fewest} are needed')
        return frame_numbers(total, self.video['num_clips'],
                             self.video.get('twice_sample', False))

    def _decode(self, path: str) -> List[np.ndarray]:
        """The frames that are looked at, of a file."""
        if not os.path.isfile(path):
            raise FileNotFoundError(f'there is no video file {path!r}')
        cv2 = import_library('cv2')
        limit = max_pixels() if self.max_pixels is None else self.max_pixels
        with _Reader(cv2, path, limit) as reader:
            total = reader.count()
        while True:
            numbers = self._numbers(total, repr(path))
            with _Reader(cv2, path, limit) as reader:
                found = reader.frames(set(numbers))
            if len(found) == len(set(numbers)):
                return [found[number] for number in numbers]
            # The header promised more: choose among those that are there.
            total = reader.passed


def frame_numbers(total: int, num_clips: int, twice: bool) -> List[int]:
    """The frames of ``total`` that MMAction2's ``SampleFrames`` takes in
    tests, one for each clip; of a video that is too short, some repeat."""
    length = total / float(num_clips)
    first = np.arange(num_clips) * length
    offsets = first + length / 2.0
    if twice:
        offsets = np.concatenate([offsets, first])
    return np.mod(offsets, total).astype(np.int32).tolist()


class _Reader:
    """A video file, open in OpenCV, from the first frame on.

    Frames are passed one by one: where OpenCV jumps to depends on the format.
    """

    def __init__(self, cv2: Any, path: str, limit: int) -> None:
        self._cv2, self._path, self._limit = cv2, path, limit
        self.passed = 0

    def __enter__(self) -> '_Reader':
        """Open it, and check what it says of itself."""
        cv2 = self._cv2
        try:
            self._capture = cv2.VideoCapture(self._path)
        except Exception as error:  # such as a name that is a pattern
            raise self._failure(one_line(error)) from error
        if not self._capture.isOpened():
            raise self._failure('OpenCV finds no video in it')
        check_pixels(
            f'the video {self._path!r}',
            [
                int(self._capture.get(size))
                for size in (cv2.CAP_PROP_FRAME_WIDTH,
                             cv2.CAP_PROP_FRAME_HEIGHT)
            ], self._limit)  # yapf: disable
        return self

    def __exit__(self, *error: Any) -> None:
        """Close it."""
        self._capture.release()

    def count(self) -> int:
        """How many frames it says that it has, or else has."""
        said = int(self._capture.get(self._cv2.CAP_PROP_FRAME_COUNT))
        if said > 0:
            return said
        while self._capture.grab():
            self.passed += 1
        return self._some()

    def frames(self, numbers: set) -> Dict[int, np.ndarray]:
        """Those frames that there are of these numbers, RGB (H, W, 3)."""
        found = {}
        last = max(numbers)
        while self.passed <= last and self._capture.grab():
            if self.passed in numbers:
                pixels = self._capture.retrieve()[1]
                if pixels is None:
                    raise self._failure(
                        f'its frame {self.passed} cannot be decoded')
                found[self.passed] = pixels[..., ::-1]
            self.passed += 1
        self._some()
        return found

    def _some(self) -> int:
        """How many frames were passed, if there was one."""
        if not self.passed:
            raise self._failure('none of its frames can be decoded')
        return self.passed

    def _failure(self, reason: str) -> ValueError:
        """What to raise."""
        return ValueError(f'cannot read the video {self._path!r}: {reason}')


def _crop(image: np.ndarray, place: int, size: Sequence[int],
          name: str) -> np.ndarray:
    """One of three crops of a size: the first, the last, the middle one."""
    (height, width), (rows, columns) = image.shape[:2], size
    if rows > height or columns > width or \
            (rows != height and columns != width):
        raise ValueError(
            f'{name} is {height}x{width} after the test pipeline, and three '
            f'crops of {rows}x{columns} (height x width) need one edge of the '
            f'same length: resize it before')
    step = (width - columns) // 2 if rows == height else (height - rows) // 2
    offset = (0, 2 * step, step)[place]
    top, left = (0, offset) if rows == height else (offset, 0)
    return image[top:top + rows, left:left + columns]
