# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Annotations in COCO's format, checked before work is lost on them."""
import io
import os
from collections import Counter
from contextlib import redirect_stdout
from functools import lru_cache
from typing import Any, Dict, List, Optional, Sequence, Set

import mmcv
from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.registry import DATASETS
from mmengine import fileio
from mmengine.logging import print_log

from ..datasets.checked_files import BrokenFileError, ChecksFiles
from ..errors import InputError, first_few
from .annotations import TOLERANCE, AnnotationChecks
from .coco_file import read_annotations

__all__ = ['CheckedCocoDataset', 'check_classes', 'index_annotations']


class _SizedCocoDataset(CocoDataset):
    """What the host checks too little, in an order that counts."""

    def prepare_data(self, idx: int) -> Any:
        """Refuse an image of another size than its boxes were drawn on."""
        data = super().prepare_data(idx)
        sample = data.get('data_samples') if isinstance(data, dict) else None
        shape = getattr(sample, 'ori_shape', None)
        fault = shape and _size_fault(shape, self.get_data_info(idx))
        if fault:
            raise BrokenFileError(f'{sample.img_path!r}: {fault}')
        return data

    def filter_data(self) -> List[dict]:
        """Leave out what ``filter_cfg`` says, and count it."""
        kept: List[dict] = super().filter_data()
        number = len(self.data_list) - len(kept)
        if number:
            message = (f'{self.ann_file!r}: filter_cfg={self.filter_cfg} '
                       f'leaves out {number:,} of {len(self.data_list):,} '
                       f'images')
            if not kept:
                raise InputError(f'{message}, so none is left')
            print_log(message, 'current')
        return kept


@DATASETS.register_module()
class CheckedCocoDataset(ChecksFiles, _SizedCocoDataset):
    """MMDetection's ``CocoDataset`` that says what is wrong with a file.

    The host leaves out without a word what it cannot use, and then trains
    on what is left, if need be on nothing. Here nothing is left out
    uncounted, and an error is one line that names the file, the entry, its
    key and its value.

    Args:
        on_bad_box (str): What to do with an annotation that cannot be used:
            of an image or a category that the file does not list; with a box
            that is missing, not four finite numbers, empty, outside of its
            image or smaller than a pixel; with an area that is not positive;
            without a mask, if the pipeline loads masks. 'raise' an error, or
            'skip' it and count how many, unless all are bad. A box that is
            partly outside is cut to the image, and counted; without an area,
            width times height counts. Defaults to 'raise'.
        on_broken (str): What to do with an image file that is missing, is
            not readable, or has another size than the annotations say:
            'raise' an error, or 'skip' it and count how many. In test mode
            all files are then decoded once beforehand. Defaults to 'raise'.
        *args, **kwargs: As for ``CocoDataset``; also ``exclude`` of
            :class:`~mmdynperceiver.datasets.checked_files.ChecksFiles`.

    Raises:
        InputError: If the file cannot be read as annotations, holds no
            images, or none of the annotations that training needs; if a
            class is no category of it, or the classes have another order
            than the categories; if all boxes are shares of the image or look
            like corners; for a bad annotation; or if image files are missing.
    """

    def __init__(self,
                 *args: Any,
                 on_bad_box: str = 'raise',
                 **kwargs: Any) -> None:
        AnnotationChecks('', on_bad_box)  # refuses other policies
        self.on_bad_box = on_bad_box
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> List[dict]:
        """An entry for each image of the annotation file."""
        # The host opens the file by this name, and deletes what it gets.
        self.COCOAPI = self._open
        try:
            data_list = super().load_data_list()
        finally:
            del self.COCOAPI
        return self._existing(data_list)

    def _open(self, path: str) -> COCO:
        """Open a file as the host does, and check its content."""
        content = read_annotations(path, self.ann_file)
        classes = list(self.metainfo['classes'])
        if not content['annotations'] and not self.test_mode:
            raise InputError(
                f'{self.ann_file!r} lists {len(content["images"])} images and '
                f'no annotation, so there is nothing to learn from: check '
                f'how it was exported')
        check_classes(content, classes, self.ann_file)
        masks = any(
            getattr(step, 'with_mask', False)
            for step in self.pipeline.transforms)
        AnnotationChecks(self.ann_file, self.on_bad_box, masks)(content)
        self._count_usable(content, classes)
        return index_annotations(content)

    def _count_usable(self, content: Dict[str, list],
                      classes: Sequence[str]) -> None:
        """Refuse to train on no box at all, and log what holds none."""
        labels = {
            category['id']
            for category in content['categories']
            if category['name'] in classes
        }
        unusable: Dict[str, int] = Counter()
        used: Set[Any] = set()
        for annotation in content['annotations']:
            if annotation['category_id'] not in labels:
                unusable['are of other categories'] += 1
            elif annotation.get('ignore'):
                unusable["are marked 'ignore'"] += 1
            elif annotation['iscrowd']:
                unusable['are crowds (iscrowd=1)'] += 1
            else:
                used.add(annotation['image_id'])
        reasons = ', '.join(f'{n:,} {why}' for why, n in unusable.items())
        if not used and not self.test_mode:
            raise InputError(
                f'{self.ann_file!r} has no box to learn from: of '
                f'{len(content["annotations"]):,} annotations {reasons}')
        empty = len(content['images']) - len(used)
        if empty:
            print_log(
                f'{empty:,} of {len(content["images"]):,} images have '
                f'no box' + (f' ({reasons})' if reasons else ''), 'current')
        files = Counter(
            os.path.normpath(image['file_name'])
            for image in content['images'])
        twice = [name for name, count in files.items() if count > 1]
        if twice:
            self._warn(
                f'{self.ann_file!r} lists {len(twice):,} image files '
                f'more than once: {first_few(twice)}; each entry has its '
                f'own boxes only')

    def _existing(self, data_list: List[dict]) -> List[dict]:
        """Refuse or leave out images whose files are not there."""
        read = self.pipeline.transforms and self.backend_args is None
        if not read or '://' in self.data_prefix['img']:
            return data_list
        names = lru_cache(maxsize=None)(_names_in)
        kept, missing = [], []
        for info in data_list:
            folder, name = os.path.split(info['img_path'])
            # Systems that do not tell A.JPG from a.jpg open either.
            there = name in names(folder) or os.path.exists(info['img_path'])
            (kept if there else missing).append(info)
        if not missing:
            return data_list
        message = (f'{len(missing):,} of the {len(data_list):,} images of '
                   f'{self.ann_file!r} are not there, the first: '
                   f'{missing[0]["img_path"]!r}')
        if self.on_broken == 'raise' or not kept:
            raise BrokenFileError(
                f"{message}: set data_root and data_prefix=dict(img=...), or "
                f"leave such images out with the option on_broken='skip'")
        self._warn(f'left out: {message}')
        return kept

    def fault_of(self, info: dict) -> Optional[str]:
        """What is wrong with the file of an image, or None."""
        try:
            content = fileio.get(info['img_path'], self.backend_args)
            image = mmcv.imfrombytes(content) if content else None
        except FileNotFoundError:
            return 'no such file'
        except Exception as error:  # decoders raise whatever they like
            return str(error).strip().split('\n')[0] or type(error).__name__
        if image is None:
            return 'not an image'
        return _size_fault(image.shape, info)


def check_classes(content: Dict[str, list], classes: Sequence[str],
                  name: str) -> None:
    """Refuse classes that are not the categories of a file, in their order.

    Raises:
        InputError: If a class is no category, or the order differs: the host
            numbers classes in the order of the file.
    """
    names = [category['name'] for category in content['categories']]
    missing = [text for text in classes if text not in names]
    if missing:
        raise InputError(
            f'{len(missing)} of the {len(classes)} classes are no '
            f'categories of {name!r}, the first: {missing[0]!r}; '
            f'it has {first_few(names)}. Set metainfo=dict(classes=(...)) '
            f"of the data sets and the head's num_classes")
    order = [text for text in names if text in classes]
    if order != list(classes):
        raise InputError(
            f'the categories of {name!r} have the order {first_few(order)} '
            f'and the classes {first_few(list(classes))}; labels follow the '
            f'file, so give metainfo=dict(classes=(...)) that order')
    others = [text for text in names if text not in classes]
    if others:
        print_log(
            f'{name}: left out the categories that are no classes: '
            f'{first_few(others)}',
            logger='current')


def index_annotations(content: Dict[str, list]) -> COCO:
    """The host's view of what ``read_annotations`` returns."""
    coco = COCO()
    coco.dataset = content
    with redirect_stdout(io.StringIO()):  # 'creating index...'
        coco.createIndex()
    coco.img_ann_map, coco.cat_img_map = coco.imgToAnns, coco.catToImgs
    return coco


def _names_in(folder: str) -> Set[str]:
    """Names of what is in a folder, if there is one."""
    return set(os.listdir(folder or '.')) if os.path.isdir(folder
                                                           or '.') else set()


def _size_fault(shape: Sequence[int], info: Dict[str, Any]) -> Optional[str]:
    """Whether a loaded image (H, W, ...) has the size of its entry."""
    height, width = shape[:2]
    wrong = max(abs(height - info['height']), abs(width - info['width']))
    if wrong <= TOLERANCE:
        return None
    turned = (height, width) == (info['width'], info['height'])
    hint = ', turned as its EXIF tag says' if turned else ''
    return (f'it has {width}x{height} pixels{hint}, and its annotations are '
            f'for {info["width"]}x{info["height"]}')
