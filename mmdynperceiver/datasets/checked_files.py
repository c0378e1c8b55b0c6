# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Data sets whose broken files are named, or skipped and counted."""
import io
import os
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, List, Optional, Sequence

import torch
from mmengine import fileio
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from PIL import Image, UnidentifiedImageError

from ..errors import InputError
from ..io.describe import one_line
from ..progress import track
from .class_names import with_class_names
from .hold_out import leave_out

__all__ = [
    'MOST_FRAMES', 'BrokenFileError', 'ChecksFiles', 'frames_missing',
    'image_fault'
]

# Of a video in a list: their names must fit into memory.
MOST_FRAMES = 10**7
NO_IMAGE = 'the decoder of the pipeline finds no image in it'
# Steps of a pipeline that decode: an image, or the frames of a video.
DECODERS = ('LoadImageFromFile', 'RawFrameDecode')


class BrokenFileError(InputError):
    """A file of the data is missing or cannot be decoded."""


class DecoderFault(str):
    """What a pipeline's decoder says of a file that Pillow can read."""


class ChecksFiles:
    """Mixin for a data set of mmengine's ``BaseDataset``.

    A broken file raises an error that names it, or is skipped and counted.
    In training another sample is drawn in its place. In test mode, where no
    sample may count twice, all files are decoded once beforehand and the
    broken ones left out.

    Args:
        on_broken (str): 'raise' or 'skip'. Defaults to 'raise'.
        exclude (str): File with a path in each line, below ``data_root``:
            these samples are left out, as ``tools/calibrate.py --hold-out``
            wants it of the training data. Defaults to '', none.
        *args, **kwargs: Arguments of the host's data set; ``classes`` may
            also be a file with a name in each line.

    Attributes:
        noun (str): What a file holds, for messages.
        error (type): The kind of error.
        path_key (str): What ``get_data_info`` calls the file or folder.
    """

    noun = 'image'
    error = BrokenFileError
    path_key = 'img_path'
    _broken: Optional[torch.Tensor] = None

    def __init__(self,
                 *args: Any,
                 on_broken: str = 'raise',
                 exclude: str = '',
                 **kwargs: Any) -> None:
        if on_broken not in ('raise', 'skip'):
            raise ValueError(
                f"on_broken must be 'raise' or 'skip', got {on_broken!r}")
        # The host lists the samples in its __init__.
        self.on_broken = on_broken
        self.exclude = exclude
        super().__init__(*args, **with_class_names(kwargs))

    def path_of(self, info: dict) -> str:
        """The file or folder of a sample."""
        return info[self.path_key]

    def fault_of(self, info: dict) -> Optional[str]:
        """What is wrong with a sample's file, or None."""
        return image_fault(
            self.path_of(info), lambda: self.decoding_fault(info))

    def decoding_fault(self, info: dict) -> Optional[str]:
        """What the pipeline's own decoder says of a sample, or None.

        It reads other files than Pillow does. What the steps before and
        behind it do is no fault of the file.
        """
        steps = list(self.pipeline.transforms)
        last = max((index for index, step in enumerate(steps)
                    if type(step).__name__ in DECODERS),
                   default=-1)
        sample: Any = dict(info)
        for index, step in enumerate(steps[:last + 1]):
            try:
                sample = step(sample)
            except Exception as error:  # decoders raise whatever they like
                if index < last or isinstance(error, BrokenFileError):
                    return None
                return NO_IMAGE if isinstance(error, AssertionError) else \
                    one_line(error)
            if sample is None:
                return NO_IMAGE if index == last else None
        found = sample.get('imgs', [sample.get('img')])
        lacks = last >= 0 and any(image is None for image in found)
        return NO_IMAGE if lacks else None

    @property
    def num_broken(self) -> int:
        """Number of files skipped so far, counted over all workers."""
        return 0 if self._broken is None else int(self._broken.sum())

    def full_init(self) -> None:
        """List the samples, and check them if nothing may be skipped later."""
        if self._fully_initialized:
            return
        super().full_init()
        if self.on_broken == 'skip' and self._broken is None:
            # Shared memory: the workers count, the main process reports.
            self._broken = torch.zeros(
                len(self), dtype=torch.bool).share_memory_()

    def filter_data(self) -> List[dict]:
        """Leave out what is excluded, or in test mode broken and skipped."""
        data_list: List[dict] = super().filter_data()
        if self.exclude:
            data_list = leave_out(data_list, self.path_of, self.exclude,
                                  self.data_root or '')
        if self.test_mode and self.on_broken == 'skip':
            return self._without_broken(data_list)
        return data_list

    def _without_broken(self, data_list: List[dict]) -> List[dict]:
        """Decode all files, leave out the broken ones and count them."""
        number = len(data_list)
        with ThreadPoolExecutor() as pool:
            faults = list(
                track(
                    pool.map(self.fault_of, data_list),
                    f'Checking {number} {self.noun}s',
                    total=number,
                    disable=not is_main_process()))
        self._broken = torch.tensor([fault is not None for fault in faults])
        if self.num_broken == number:
            if all(isinstance(fault, DecoderFault) for fault in faults):
                # Nor is it a fault of the files: using one says so.
                self._broken.zero_()
                return data_list
            raise self.error(
                f'none of the {number} {self.noun}s can be decoded; the '
                f'first: {self.path_of(data_list[0])!r}: {faults[0]}')
        for info, fault in zip(data_list, faults):
            if fault is not None:
                self._warn(f'skipped broken {self.noun} '
                           f'{self.path_of(info)!r}: {fault}')
        if self.num_broken:
            self._warn(f'skipped {self.num_broken} of {number} {self.noun}s')
        return [i for i, fault in zip(data_list, faults) if fault is None]

    def prepare_data(self, idx: int) -> Any:
        """Load one sample; None, if it is broken and to be skipped."""
        try:
            return super().prepare_data(idx)
        except Exception as error:
            info = self.get_data_info(idx)
            path, fault = self.path_of(info), self.fault_of(info)
            if fault is None and _of_image_library(error):
                # Such as one too thin or too large to be resized.
                fault = f'the pipeline cannot take it: {one_line(error)}'
            if fault is None:
                raise  # the file is fine, so the pipeline is not
            if self.on_broken == 'raise' or self.test_mode:
                hint = '' if self.on_broken == 'skip' else \
                    " (the option on_broken='skip' leaves such files out)"
                raise self.error(f'cannot read {self.noun} {path!r}: {fault}'
                                 f'{hint}') from error
            assert self._broken is not None
            if not self._broken[idx]:
                self._broken[idx] = True
                self._warn(f'skipped broken {self.noun} {path!r}: {fault}')
            return None

    @staticmethod
    def _warn(message: str) -> None:
        """Log a warning from whatever process this is."""
        print_log(message, logger='current', level=30)


def _of_image_library(error: BaseException) -> bool:
    """Whether OpenCV or Pillow raised an error, or the memory was full."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    where = frame.f_globals.get('__name__', '').partition('.')[0]
    return isinstance(
        error,
        MemoryError) or 'cv2' == type(error).__module__ or where == 'PIL'


def frames_missing(folder: str, names: Sequence[str]) -> List[str]:
    """The names of frames that a folder lacks, or that are empty files."""
    with os.scandir(folder) as entries:
        found = {entry.name for entry in entries if entry.stat().st_size > 0}
    return [name for name in names if name not in found]


def image_fault(
        path: str,
        decode: Optional[Callable[[], Optional[str]]] = None) -> Optional[str]:
    """What is wrong with an image file, or None.

    ``decode`` has another decoder try, and gives what it finds wrong: Pillow
    alone knows where a file is cut off, and the two do not know the same
    formats. Its word is a :class:`DecoderFault` where Pillow can read the
    file.
    """
    fault = None
    try:
        with Image.open(io.BytesIO(fileio.get(path))) as image:
            image.load()
    except FileNotFoundError:
        return 'no such file'
    except Exception as error:  # decoders raise whatever they like
        reason = str(error).strip().split('\n')[0]
        # The buffer's address would differ from run to run.
        fault = reason.split(' <_io')[0] or type(error).__name__
        if decode is None or not isinstance(error, UnidentifiedImageError):
            return fault
    if decode is None:
        return fault
    found = decode()
    return None if found is None else fault or DecoderFault(found)
