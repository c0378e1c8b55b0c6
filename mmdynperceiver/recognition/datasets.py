# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Videos and frame folders whose broken ones are named, or skipped."""
import os.path as osp
from typing import Any, List, Optional

import numpy as np
from mmaction.datasets import RawframeDataset, VideoDataset
from mmaction.registry import DATASETS, TRANSFORMS
from mmcv.transforms import BaseTransform
from mmengine import fileio

from ..engine.broken_files import (BrokenFileError, ChecksFiles,
                                   frames_missing, image_fault)
from ..engine.errors import InputError
from ..engine.hold_out import leave_out

__all__ = [
    'BrokenVideoError', 'CheckedRawframeDataset', 'CheckedVideoDataset',
    'RequireFrames', 'video_fault'
]


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
            raise BrokenVideoError(
                f'video {path!r} is too short: it has '
                f'{results["total_frames"]} frames, at least '
                f'{self.min_frames} are needed')
        return results


class ChecksVideos(ChecksFiles):
    """What the data sets of videos and of frame folders share."""

    noun = 'video'
    error = BrokenVideoError

    def __init__(self,
                 *args: Any,
                 on_broken: str = 'raise',
                 exclude: str = '',
                 **kwargs: Any) -> None:
        self.on_broken = self.check_on_broken(on_broken)
        self.exclude = exclude
        super().__init__(*args, **kwargs)

    @property
    def min_frames(self) -> int:
        """Fewest frames that the pipeline takes."""
        return max([
            step.min_frames for step in self.pipeline.transforms
            if isinstance(step, RequireFrames)
        ] + [1])

    def load_data_list(self) -> List[dict]:
        """List videos and labels."""
        if not fileio.exists(self.ann_file):
            raise FileNotFoundError(
                f'there is no list of videos {self.ann_file!r}: set '
                f'data_root (and ann_file) of the dataset')
        try:
            data_list = super().load_data_list()
        except (ValueError, AssertionError, IndexError) as error:
            raise InputError(
                f'a line of {self.ann_file!r} does not fit '
                f'{type(self).__name__}: {str(error) or "wrong number of "}'
                f'{"" if str(error) else "columns"} ({self.line})') from error
        if not data_list:
            raise InputError(f'there are no videos in {self.ann_file!r}')
        if not self.multi_class:
            self.num_labels = 1 + max(info['label'] for info in data_list)
        if self.exclude:
            data_list = leave_out(data_list, self.path_of, self.exclude,
                                  self.data_root or '')
        return data_list


@DATASETS.register_module()
class CheckedVideoDataset(ChecksVideos, VideoDataset):
    """Video files of a list; broken ones are named, or skipped and counted.

    Args:
        ann_file (str): List with a file, a space and a label in each line,
            in ``data_root``.
        pipeline (list[dict]): Transforms.
        on_broken (str): 'raise' or 'skip'. Skipped videos are replaced by
            others in training; in test mode all videos are opened once
            beforehand and the broken ones left out. Defaults to 'raise'.
        exclude (str): File with a path in each line, in ``data_root``:
            these videos are left out, as ``tools/calibrate.py --hold-out``
            wants it of the training videos. Defaults to '', none.
        **kwargs: Arguments of ``mmaction.datasets.VideoDataset``.

    Attributes:
        num_labels (int): Largest label plus 1.

    Raises:
        FileNotFoundError: If the list is missing.
        InputError: If there are no videos, or a line does not fit.
    """

    line = 'a file, a space and a whole number'

    def path_of(self, info: dict) -> str:
        """The file of a video."""
        return info['filename']

    def fault_of(self, info: dict) -> Optional[str]:
        """What is wrong with a video, or None."""
        return video_fault(info['filename'], self.min_frames)


@DATASETS.register_module()
class CheckedRawframeDataset(ChecksVideos, RawframeDataset):
    """Frame folders of a list; broken ones are named, or skipped and counted.

    Args:
        ann_file (str): List with a folder, its number of frames and a label
            in each line, in ``data_root``.
        pipeline (list[dict]): Transforms.
        on_broken (str): As for :class:`CheckedVideoDataset`. Defaults to
            'raise'.
        exclude (str): As for :class:`CheckedVideoDataset`. Defaults to ''.
        **kwargs: Arguments of ``mmaction.datasets.RawframeDataset``, such as
            ``filename_tmpl`` and ``start_index``.

    Attributes:
        num_labels (int): Largest label plus 1.

    Raises:
        FileNotFoundError: If the list is missing.
        InputError: If there are no videos, or a line does not fit.
    """

    line = 'a folder, its number of frames and a label'

    def path_of(self, info: dict) -> str:
        """The folder of a video's frames."""
        return info['frame_dir']

    def fault_of(self, info: dict) -> Optional[str]:
        """What is wrong with a folder of frames, or None."""
        total = info['total_frames']
        if total < self.min_frames:
            return f'it has {total} frames, at least {self.min_frames} are ' \
                   f'needed'
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
        for name in names:
            fault = image_fault(osp.join(info['frame_dir'], name))
            if fault is not None:
                return f'{name}: {fault}'
        return None


def video_fault(path: str, min_frames: int = 1) -> Optional[str]:
    """Open a video file and read frames at its start, middle and end.

    Args:
        path (str): The file.
        min_frames (int): Fewest frames. Defaults to 1.

    Returns:
        str | None: What is wrong with it, or None.
    """
    if not osp.isfile(path):
        return 'no such file'
    try:
        total = _read_some_frames(path)
    except Exception as error:  # decoders raise whatever they like
        reason = str(error).strip().split('\n')[-1]
        return f'it cannot be decoded ({reason or type(error).__name__})'
    if total < min_frames:
        return f'it has {total} frames, at least {min_frames} are needed'
    return None


def _read_some_frames(path: str) -> int:
    """Decode the first, the middle and the last frame; count all."""
    import decord
    reader = decord.VideoReader(path, num_threads=1)
    total = len(reader)
    if total:
        frames = reader.get_batch(sorted({0, total // 2, total - 1}))
        if not np.prod(frames.shape):
            raise ValueError('empty frames')
    return total
