# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Image folders whose broken files are named, or skipped and counted."""
import io
import os.path as osp
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, List, Optional, Tuple

import torch
from mmengine import fileio
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmpretrain.datasets import CustomDataset
from mmpretrain.registry import DATASETS
from PIL import Image
from rich.progress import track

from ..engine.errors import InputError
from ..engine.hold_out import read_list

__all__ = ['BrokenImageError', 'CheckedImageFolder']


class BrokenImageError(InputError):
    """An image file is missing or cannot be decoded."""


@DATASETS.register_module()
class CheckedImageFolder(CustomDataset):
    """Any folder in ImageNet's layout, with any number of classes.

    Either ``train/<class>/*`` and ``val/<class>/*`` (the classes are the
    sorted names of the sub-folders), or an annotation file with a path and a
    label in each line. A missing or undecodable image raises an error that
    names the file, or is skipped and counted. In training another sample is
    drawn in its place. In test mode, where no sample may count twice, all
    files are decoded once beforehand and the broken ones left out.

    Args:
        data_root (str): Folder of everything. Defaults to ''.
        split (str): Name of a split: sets ``data_prefix`` and, if
            ``meta/<split>.txt`` is there, ``ann_file``, unless they are
            given. Defaults to ''.
        data_prefix (str | dict): Folder of the images, in ``data_root``.
            Defaults to ''.
        ann_file (str): Annotation file, in ``data_root``. Defaults to ''.
        on_broken (str): 'raise' or 'skip'. Defaults to 'raise'.
        exclude (str): File with a path in each line, in ``data_root``: these
            images are left out, as ``tools/calibrate.py --hold-out`` wants
            it of the training images. Defaults to '', none.
        **kwargs: Arguments of ``mmpretrain.datasets.CustomDataset``; set
            ``test_mode=True`` for validation and test.

    Attributes:
        num_labels (int): Largest label plus 1; the number of classes may be
            larger, or not known from an annotation file.

    Raises:
        FileNotFoundError: If the folder or the annotation file is missing.
        InputError: If there are no images, the annotation file or the list
            of images to leave out has a line that does not fit, or no file
            can be decoded.
    """

    def __init__(self,
                 data_root: str = '',
                 split: str = '',
                 data_prefix: Any = '',
                 ann_file: str = '',
                 on_broken: str = 'raise',
                 exclude: str = '',
                 **kwargs: Any) -> None:
        if on_broken not in ('raise', 'skip'):
            raise ValueError(
                f"on_broken must be 'raise' or 'skip', got {on_broken!r}")
        self.on_broken = on_broken
        self.exclude = exclude
        self._broken: Optional[torch.Tensor] = None
        if split:
            data_prefix = data_prefix or split
            found = fileio.join_path('meta', f'{split}.txt')
            if not ann_file and fileio.exists(
                    fileio.join_path(data_root, found)):
                ann_file = found
        super().__init__(
            data_root=data_root,
            data_prefix=data_prefix,
            ann_file=ann_file,
            **kwargs)

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

    def load_data_list(self) -> List[dict]:
        """List paths and labels; the classes follow if none are given."""
        for what, path in (('image folder', self.img_prefix),
                           ('annotation file', self.ann_file)):
            if path and not fileio.exists(path):
                raise FileNotFoundError(
                    f'there is no {what} {path!r}: set data_root (and '
                    f'data_prefix or ann_file) of the dataset')
        try:
            data_list = super().load_data_list()
        except ValueError as error:
            raise InputError(
                f'each line of {self.ann_file!r} must be a path, a space and '
                f'a whole number: {error}') from error
        if not data_list:
            raise InputError(f'there are no images in '
                             f'{self.ann_file or self.img_prefix!r}')
        if self.ann_file and self.with_label:
            if self.CLASSES is None:
                classes = _classes_from_paths(data_list, self.img_prefix)
                if classes is not None:
                    self._metainfo['classes'] = classes
            _check_labels(data_list, self.CLASSES, self.ann_file)
        if self.with_label:
            self.num_labels = 1 + max(
                (info['gt_label'] for info in data_list), default=-1)
        if self.exclude:
            data_list = _without(data_list, self.exclude, self.data_root)
        return data_list

    def filter_data(self) -> List[dict]:
        """In test mode, leave out the broken files when they are skipped."""
        if not (self.test_mode and self.on_broken == 'skip'):
            return self.data_list
        paths = [info['img_path'] for info in self.data_list]
        with ThreadPoolExecutor() as pool:
            errors = list(
                track(
                    pool.map(decode_error, paths),
                    f'Checking {self.img_prefix}',
                    total=len(paths),
                    disable=not is_main_process()))
        kept = [
            info for info, error in zip(self.data_list, errors)
            if error is None
        ]
        if not kept:
            raise BrokenImageError(
                f'none of the {len(paths)} images in {self.img_prefix!r} can '
                f'be decoded; the first: {paths[0]!r}')
        for path, error in zip(paths, errors):
            if error is not None:
                _warn(f'skipped broken image {path!r}: {error}')
        self._broken = torch.tensor([error is not None for error in errors])
        _warn(f'skipped {len(paths) - len(kept)} of {len(paths)} images in '
              f'{self.img_prefix!r}')
        return kept

    def prepare_data(self, idx: int) -> Any:
        """Load one sample; None, if it is broken and to be skipped."""
        try:
            return super().prepare_data(idx)
        except Exception as error:
            path = self.get_data_info(idx)['img_path']
            reason = decode_error(path)
            if reason is None:
                raise  # the file is fine, so the pipeline is not
            if self.on_broken == 'raise' or self.test_mode:
                raise BrokenImageError(
                    f'cannot read image {path!r}: {reason} (the dataset '
                    f"option on_broken='skip' leaves such files out)"
                ) from error
            if not self._broken[idx]:
                self._broken[idx] = True
                _warn(f'skipped broken image {path!r}: {reason}')
            return None


def decode_error(path: str) -> Optional[str]:
    """Try to decode an image file.

    Args:
        path (str): The file.

    Returns:
        str | None: What is wrong with it, or None.
    """
    try:
        with Image.open(io.BytesIO(fileio.get(path))) as image:
            image.load()
    except FileNotFoundError:
        return 'no such file'
    except Exception as error:  # decoders raise whatever they like
        reason = str(error).strip().split('\n')[0]
        # The buffer's address would differ from run to run.
        return reason.split(' <_io')[0] or type(error).__name__
    return None


def _warn(message: str) -> None:
    """Log a warning from whatever process this is."""
    print_log(message, logger='current', level=30)


def _classes_from_paths(data_list: List[dict],
                        prefix: str) -> Optional[Tuple[str, ...]]:
    """Class names from the folders, if each label has one of its own."""
    names: Dict[int, str] = {}
    for info in data_list:
        folder, _, rest = info['img_path'][len(prefix):].lstrip('/').partition(
            '/')
        if not rest or names.setdefault(info['gt_label'], folder) != folder:
            return None
    if len(set(names.values())) < len(names) or \
            set(names) != set(range(len(names))):
        return None
    return tuple(names[label] for label in range(len(names)))


def _without(data_list: List[dict], list_file: str, root: str) -> List[dict]:
    """Leave out the images of a list; each must be there."""
    names = read_list(list_file)
    excluded = {osp.normpath(osp.join(root, name)) for name in names}
    kept = [
        info for info in data_list
        if osp.normpath(info['img_path']) not in excluded
    ]
    if len(data_list) - len(kept) != len(excluded):
        paths = {osp.normpath(info['img_path']) for info in data_list}
        missing = sorted(excluded - paths)
        raise InputError(
            f'{len(missing)} of the {len(excluded)} images that {list_file!r} '
            f'leaves out are not in the data, the first: {missing[0]!r}; the '
            f'list is for other data')
    if not kept:
        raise InputError(f'{list_file!r} leaves out all '
                         f'{len(data_list)} images')
    return kept


def _check_labels(data_list: List[dict], classes: Optional[Tuple[str, ...]],
                  ann_file: str) -> None:
    """Refuse labels that are no class."""
    for info in data_list:
        label = info['gt_label']
        if label < 0 or (classes is not None and label >= len(classes)):
            known = '' if classes is None else f' below {len(classes)}'
            raise InputError(
                f'{ann_file!r} gives {info["img_path"]!r} the label {label}; '
                f'labels start at 0 and stay{known or " positive"}')
