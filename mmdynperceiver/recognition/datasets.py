# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Videos and frame folders whose broken ones are named, or skipped."""
import os.path as osp
import re
from typing import Any, Dict, List, Optional, Sequence, Union

import numpy as np
from mmaction.datasets import RawframeDataset, VideoDataset
from mmaction.registry import DATASETS, TRANSFORMS
from mmcv.transforms import BaseTransform
from mmengine import fileio

from ..datasets.checked_files import (MOST_FRAMES, BrokenFileError,
                                      ChecksFiles, frames_missing, image_fault)
from ..datasets.lists import (ends_with_number, local_separators, read_lines,
                              split_label, unquoted, wrong_line)
from ..errors import InputError

__all__ = [
    'BrokenVideoError', 'CheckedRawframeDataset', 'CheckedVideoDataset',
    'RequireFrames', 'video_fault'
]

# Of a video that has none in the list.
NO_LABEL = -1


class BrokenVideoError(BrokenFileError):
    """A video is missing, too short or cannot be decoded."""


@TRANSFORMS.register_module()
class RequireFrames(BaseTransform):
    """Refuse a video that is too short, rather than repeat its frames.

    It stands behind what opens the video (``DecordInit``, ``OpenCVInit``);
    before ``SampleFrames`` where frame folders are read.

    Args:
        min_frames (int): Fewest frames of a video. Defaults to 1.

    Raises:
        BrokenVideoError: Naming the video, if it has fewer.
    """

    def __init__(self, min_frames: int = 1) -> None:
        self.min_frames = min_frames

    def transform(self, results: dict) -> dict:
        """Check ``total_frames``."""
        if results['total_frames'] < self.min_frames:
            path = results.get('filename') or results.get('frame_dir')
            fault = _too_short(results['total_frames'], self.min_frames)
            raise BrokenVideoError(f'video {path!r} is too short: {fault}')
        return results


class ChecksVideos(ChecksFiles):
    """What the data sets of videos and of frame folders share.

    Attributes:
        line (str): What a line of the list must be, for messages.
        num_labels (int): Largest label plus 1.
    """

    noun = 'video'
    error = BrokenVideoError
    line: str

    @property
    def min_frames(self) -> int:
        """Fewest frames that the pipeline takes."""
        steps = self.pipeline.transforms
        return max(
            [s.min_frames
             for s in steps if isinstance(s, RequireFrames)] + [1])

    def load_data_list(self) -> List[dict]:
        """List videos and labels."""
        if not fileio.exists(self.ann_file):
            raise FileNotFoundError(
                f'there is no list of videos {self.ann_file!r}: set '
                f'data_root (and ann_file) of the dataset')
        lines = read_lines(self.ann_file, 'list of videos')
        data_list = []
        for number, line in lines:
            try:
                data_list.append(self.parse(line.strip()))
            except (ValueError, IndexError) as error:
                raise wrong_line(self.ann_file, number, line,
                                 self.line) from error
        if not data_list:
            raise InputError(f'there are no videos in {self.ann_file!r}')
        if self.multi_class:
            return data_list
        labels = [info['label'] for info in data_list]
        self.num_labels = 1 + max(labels)
        # As the host does for videos to be classified.
        if not (self.test_mode and set(labels) == {NO_LABEL}):
            for label, (number, line) in zip(labels, lines):
                if label < 0:
                    raise wrong_line(self.ann_file, number, line,
                                     f'{self.line}, from 0')
        return data_list

    def parse(self, line: str) -> dict:
        """What a line of the list says; a ValueError, if it does not fit."""
        raise NotImplementedError

    def _labels(self, fields: Sequence[str]) -> Union[int, List[int]]:
        """The label, or labels, of the last columns."""
        labels = [_whole_number(field) for field in fields]
        if self.multi_class:
            return labels
        if len(labels) > 1:
            raise ValueError('more than one label')
        return labels[0] if labels else NO_LABEL

    def _join(self, kind: str, name: str) -> str:
        """Path of a file or folder of the list."""
        folder = self.data_prefix.get(kind)
        name = local_separators(unquoted(name), folder or '')
        return name if folder is None else osp.join(folder, name)


def _whole_number(text: str) -> int:
    """A whole number in digits."""
    if not re.fullmatch('[+-]?[0-9]{1,18}', text):
        raise ValueError(f'{text!r} is no whole number')
    return int(text)


@DATASETS.register_module()
class CheckedVideoDataset(ChecksVideos, VideoDataset):
    """Video files of a list; broken ones are named, or skipped and counted.

    Args:
        ann_file (str): List with a file, a space and a label in each line,
            in ``data_root``.
        on_broken, exclude: See
            :class:`~mmdynperceiver.datasets.checked_files.ChecksFiles`.
        **kwargs: Arguments of ``mmaction.datasets.VideoDataset``.

    Raises:
        FileNotFoundError: If the list is missing.
        InputError: If there are no videos, or a line does not fit.
    """

    path_key = 'filename'
    line = 'a file, a space or a tab, and a whole number'

    def parse(self, line: str) -> dict:
        """The file and the label of a line."""
        if self.multi_class:
            name, *labels = line.split(None if self.delimiter ==
                                       ' ' else self.delimiter)
        elif self.delimiter == ' ':
            # A single column has no label.
            found = split_label(line)
            name, *labels = found or line.split()
            if found is None and labels:
                raise ValueError('no whole number')
        else:
            name, *labels = line.rsplit(self.delimiter, 1)
        return dict(
            filename=self._join('video', name),
            label=self._labels([str(label).strip() for label in labels]))

    def fault_of(self, info: dict) -> Optional[str]:
        """What is wrong with a video, or None."""
        return video_fault(info['filename'], self.min_frames)


@DATASETS.register_module()
class CheckedRawframeDataset(ChecksVideos, RawframeDataset):
    """Frame folders of a list; broken ones are named, or skipped and counted.

    Args:
        ann_file (str): List with a folder, its number of frames and a label
            in each line, in ``data_root``.
        **kwargs: As for :class:`CheckedVideoDataset`, and arguments of
            ``mmaction.datasets.RawframeDataset``, such as ``filename_tmpl``
            and ``start_index``.

    Raises:
        FileNotFoundError: If the list is missing.
        InputError: If there are no videos, or a line does not fit.
    """

    path_key = 'frame_dir'
    line = 'a folder, its number of frames and a label'

    def parse(self, line: str) -> dict:
        """The folder, its frames and the label of a line."""
        counts = 2 if self.with_offset else 1
        # A single label leaves room for spaces in the name.
        fields = line.split() if self.multi_class else \
            line.rsplit(None, counts + 1)
        if ends_with_number(fields[0]):
            raise ValueError('too many columns')
        info: Dict[str, Any] = dict(frame_dir=self._join('img', fields[0]))
        names = ('offset', 'total_frames')[-counts:]
        for name, field in zip(names, fields[1:]):
            info[name] = _whole_number(field)
            if info[name] > MOST_FRAMES:
                raise ValueError(f'more than {MOST_FRAMES} frames')
        return dict(info, label=self._labels(fields[counts + 1:]))

    def fault_of(self, info: dict) -> Optional[str]:
        """What is wrong with a folder of frames, or None."""
        total = info['total_frames']
        if total < self.min_frames:
            return _too_short(total, self.min_frames)
        if not osp.isdir(info['frame_dir']):
            return 'no such folder'
        first = self.start_index + info.get('offset', 0)
        names = [
            self.filename_tmpl.format(number)
            for number in range(first, first + total)
        ]
        missing = frames_missing(info['frame_dir'], names)
        if missing:
            return f'{len(missing)} of {total} frames are missing, the ' \
                   f'first: {missing[0]}'
        if self.test_mode:
            # The same frames will be read.
            return self.decoding_fault(
                dict(
                    info,
                    filename_tmpl=self.filename_tmpl,
                    modality=self.modality,
                    start_index=self.start_index))
        # Something failed with some of them.
        faults = ((name, image_fault(osp.join(info['frame_dir'], name)))
                  for name in names)
        return next((f'{name}: {fault}' for name, fault in faults if fault),
                    None)


def video_fault(path: str, min_frames: int = 1) -> Optional[str]:
    """What is wrong with a video file, or None.

    Its first, middle and last frame are decoded.
    """
    if not osp.isfile(path):
        return 'no such file'
    try:
        import decord
        reader = decord.VideoReader(path, num_threads=1)
        total = len(reader)
        if total:
            frames = reader.get_batch(sorted({0, total // 2, total - 1}))
            if not np.prod(frames.shape):
                raise ValueError('empty frames')
    except Exception as error:  # decoders raise whatever they like
        reason = str(error).strip().split('\n')[-1]
        return f'it cannot be decoded ({reason or type(error).__name__})'
    return _too_short(total, min_frames) if total < min_frames else None


def _too_short(total: int, min_frames: int) -> str:
    """What is wrong with a video of too few frames."""
    return f'it has {total} frames, at least {min_frames} are needed'
