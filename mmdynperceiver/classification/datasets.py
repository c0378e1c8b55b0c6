# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Image folders whose broken files are named, or skipped and counted."""
import math
import os
from typing import Any, Dict, List, Optional, Tuple, Union

from mmengine import fileio
from mmpretrain.datasets import CustomDataset
from mmpretrain.datasets.custom import find_folders, get_samples
from mmpretrain.registry import DATASETS

from ..datasets.checked_files import BrokenFileError, ChecksFiles
from ..datasets.class_names import folder_labels
from ..datasets.image_files import EXTENSIONS, list_files
from ..datasets.lists import (local_separators, read_lines, split_label,
                              wrong_line)
from ..errors import InputError, first_few

__all__ = ['BrokenImageError', 'CheckedImageFolder']


class BrokenImageError(BrokenFileError):
    """An image file is missing or cannot be decoded."""


@DATASETS.register_module()
class CheckedImageFolder(ChecksFiles, CustomDataset):
    """Any folder in ImageNet's layout, with any number of classes.

    Either ``train/<class>/*`` and ``val/<class>/*`` (the classes are the
    sorted names of the sub-folders, unless ``classes`` names them in the
    order of their labels), or an annotation file with a path and a label in
    each line, a space or a tab between. Hidden folders do not count.

    Args:
        data_root (str): Folder of everything. Defaults to ''.
        split (str): Name of a split: sets ``data_prefix`` and, if
            ``meta/<split>.txt`` is there, ``ann_file``, unless they are
            given. Defaults to ''.
        data_prefix (str | dict): Folder of the images, in ``data_root``.
            Defaults to ''.
        ann_file (str): Annotation file, in ``data_root``. Defaults to ''.
        on_broken, exclude: See
            :class:`~mmdynperceiver.datasets.checked_files.ChecksFiles`.
        **kwargs: Arguments of ``mmpretrain.datasets.CustomDataset``; set
            ``test_mode=True`` for validation and test. ``extensions``
            defaults to :data:`mmdynperceiver.datasets.image_files.EXTENSIONS`,
            as in deployment.

    Attributes:
        num_labels (int): Largest label plus 1; the number of classes may be
            larger, or not known from an annotation file.
        classes_from (str): Whether the names of the classes are those of
            'folders' or follow from the 'paths' of an annotation file;
            otherwise the 'options' say them.

    Raises:
        FileNotFoundError: If the folder or the annotation file is missing.
        InputError: If there are no images, the annotation file or the list
            of images to leave out has a line that does not fit, or no file
            can be decoded.
    """

    error = BrokenImageError
    classes_from = 'options'

    def __init__(self,
                 data_root: str = '',
                 split: str = '',
                 data_prefix: Union[str, dict] = '',
                 ann_file: str = '',
                 **kwargs: Any) -> None:
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
            **{
                'extensions': EXTENSIONS,
                **kwargs
            })

    def load_data_list(self) -> List[dict]:
        """List paths and labels; the classes follow if none are given."""
        for what, path in (('image folder', self.img_prefix),
                           ('annotation file', self.ann_file)):
            if path and not fileio.exists(path):
                raise FileNotFoundError(
                    f'there is no {what} {path!r}: set data_root (and '
                    f'data_prefix or ann_file) of the dataset')
        data_list = self._annotated() if self.ann_file else \
            super().load_data_list()
        if not data_list:
            raise InputError(f'there are no images in '
                             f'{self.ann_file or self.img_prefix!r}')
        if self.ann_file and self.with_label and self.CLASSES is None:
            classes = _classes_from_paths(data_list, self.img_prefix)
            if classes is not None:
                self._metainfo['classes'] = classes
                self.classes_from = 'paths'
        if self.with_label:
            self.num_labels = 1 + max(
                (info['gt_label'] for info in data_list), default=-1)
        return data_list

    def _annotated(self) -> List[dict]:
        """What the annotation file says."""
        data_list = []
        most = math.inf if self.CLASSES is None else len(self.CLASSES)
        for number, line in read_lines(self.ann_file, 'annotation file'):
            info: Dict[str, Any] = {}
            if self.with_label:
                fields = split_label(line)
                if fields is None:
                    raise wrong_line(
                        self.ann_file, number, line,
                        'a path, a space or a tab, and a whole number')
                line, info['gt_label'] = fields
                if not 0 <= fields[1] < most:
                    raise InputError(
                        f'line {number} of {self.ann_file!r} gives {line!r} '
                        f'the label {fields[1]}; labels start at 0 and stay ' +
                        ('positive' if most == math.inf else f'below {most}'))
            line = local_separators(line, self.img_prefix)
            info['img_path'] = fileio.join_path(self.img_prefix, line)
            data_list.append(info)
        return data_list

    def _find_samples(self) -> List[Tuple[str, int]]:
        """Find images in class folders; given names decide the labels."""
        if not self.with_label:
            return super()._find_samples()
        folders = [
            name for name in find_folders(self.img_prefix)[0]
            if not name.startswith('.')
        ]
        labels = folder_labels(folders, self.CLASSES, self.img_prefix)
        if self.CLASSES is None:
            self._metainfo['classes'] = tuple(folders)
            self.classes_from = 'folders'
        self.folder_to_idx = labels
        if '://' in self.img_prefix:
            samples = get_samples(self.img_prefix, labels,
                                  self.is_valid_file)[0]
        else:
            # As in deployment: without hidden files and circles of links.
            samples = [(os.path.relpath(path, self.img_prefix), labels[name])
                       for name in sorted(labels) for path in list_files(
                           os.path.join(self.img_prefix, name),
                           sorted(self.extensions))]
        if not samples:
            raise InputError(
                f'there are no images in the class folders of '
                f'{self.img_prefix!r} ({first_few(folders)}): expected '
                f'<class>/<image>, with the endings '
                f'{" ".join(sorted(self.extensions))}')
        found = {label for _, label in samples}
        empty = [c for k, c in enumerate(self.CLASSES) if k not in found]
        if empty:
            self._warn(f'{self.img_prefix!r} has no images of '
                       f'{len(empty)} of the {len(self.CLASSES)} classes: '
                       f'{first_few(empty)}')
        return samples


def _classes_from_paths(data_list: List[dict],
                        prefix: str) -> Optional[Tuple[str, ...]]:
    """Class names from the folders, if each label has one of its own."""
    names: Dict[int, str] = {}
    for info in data_list:
        below = info['img_path'][len(prefix):].replace(os.sep, '/')
        folder, _, rest = below.lstrip('/').partition('/')
        if not rest or names.setdefault(info['gt_label'], folder) != folder:
            return None
    found = tuple(names[label] for label in sorted(names))
    whole = sorted(names) == list(range(len(names)))
    return found if whole and len(set(found)) == len(found) else None
