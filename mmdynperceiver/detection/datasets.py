# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Annotations in COCO's format, checked before work is lost on them."""
import math
from typing import Any, Dict, List, Optional

from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS
from mmengine.logging import print_log

from ..engine import InputError

__all__ = ['CheckedCocoDataset']

POLICIES = ('raise', 'skip')
# Boxes often reach a pixel too far.
TOLERANCE = 1.


@DATASETS.register_module()
class CheckedCocoDataset(CocoDataset):
    """MMDetection's ``CocoDataset`` that says what is wrong with a file.

    The host leaves out without a word what it cannot use, and then trains
    on what is left, if need be on nothing.

    Args:
        on_bad_box (str): What to do with a box that is empty or outside of
            its image: 'raise' an error that names it, or 'skip' it and count
            how many. A box that is partly outside is cut to the image, and
            counted. Defaults to 'raise'.
        *args: As for ``CocoDataset``.
        **kwargs: As for ``CocoDataset``.

    Raises:
        InputError: If the file cannot be read as annotations, holds no
            images, or none of the annotations that training needs; if a
            class is no category of it; or for a bad box.
    """

    def __init__(self,
                 *args: Any,
                 on_bad_box: str = 'raise',
                 **kwargs: Any) -> None:
        if on_bad_box not in POLICIES:
            raise ValueError(f'on_bad_box must be one of '
                             f'{", ".join(POLICIES)}, got {on_bad_box!r}')
        self.on_bad_box = on_bad_box
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> List[dict]:
        """Load the annotation file.

        Returns:
            list[dict]: An entry for each image.
        """
        # The host opens the file by this name, and deletes what it gets.
        self.COCOAPI = self._open
        try:
            return super().load_data_list()
        finally:
            del self.COCOAPI

    def _open(self, path: str) -> Any:
        """Open a file as the host does, and check its content."""
        try:
            coco = CocoDataset.COCOAPI(path)
        except FileNotFoundError:
            raise InputError(
                f'there is no annotation file {self.ann_file!r}') from None
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            raise InputError(f'{self.ann_file!r} does not hold annotations in '
                             f"COCO's format: {error!r}") from error
        self._check_content(coco.dataset)
        self._check_boxes(coco)
        return coco

    def _check_content(self, content: Dict[str, list]) -> None:
        """Refuse a file without images, annotations or a class."""
        if not content.get('images'):
            raise InputError(f'{self.ann_file!r} lists no images')
        if not content.get('annotations') and not self.test_mode:
            raise InputError(
                f'{self.ann_file!r} lists {len(content["images"])} images and '
                f'no annotation, so there is nothing to learn from: check '
                f'how it was exported')
        names = [entry['name'] for entry in content.get('categories', ())]
        classes = list(self.metainfo['classes'])
        missing = [name for name in classes if name not in names]
        if missing:
            raise InputError(
                f'{len(missing)} of the {len(classes)} classes are no '
                f'categories of {self.ann_file!r}, the first: {missing[0]!r}; '
                f'it has {_listed(names)}. Set metainfo=dict(classes=(...)) '
                f"of the data sets and the head's num_classes")
        others = [name for name in names if name not in classes]
        if others:
            print_log(
                f'{self.ann_file}: left out the categories that are no '
                f'classes: {_listed(others)}',
                logger='current')

    def _check_boxes(self, coco: Any) -> None:
        """Cut or refuse boxes that reach out of their image."""
        bad = cut = 0
        for annotation in coco.anns.values():
            image = coco.imgs.get(annotation['image_id'])
            if image is None:
                raise InputError(
                    f'annotation {annotation["id"]} of {self.ann_file!r} is '
                    f'for the image {annotation["image_id"]!r}, which the '
                    f'file does not list')
            box = annotation['bbox']
            inside = _inside(box, image)
            if inside is None:
                if self.on_bad_box == 'raise':
                    raise InputError(
                        f'annotation {annotation["id"]} of {self.ann_file!r} '
                        f'has the box {box} (x, y, width, height), which is '
                        f'empty or outside of {image["file_name"]!r} '
                        f'({image["width"]}x{image["height"]}); the data '
                        f"set's option on_bad_box='skip' leaves such boxes "
                        f'out')
                bad += 1
                annotation['ignore'] = True
            elif max(abs(a - b) for a, b in zip(inside, box)) > TOLERANCE:
                cut += 1
                annotation['bbox'] = inside
        for number, what in ((bad, 'left out {} boxes that are empty or '
                              'outside of their images'),
                             (cut, 'cut {} boxes to their images')):
            if number:
                print_log(
                    f'{self.ann_file}: {what.format(number)}',
                    logger='current',
                    level=30)


def _inside(box: List[float], image: Dict[str, Any]) -> Optional[List[float]]:
    """The part of a box that is in the image, or None."""
    x, y, width, height = box
    if not all(map(math.isfinite, box)):
        return None
    left, top = max(x, 0), max(y, 0)
    right = min(x + width, image['width'])
    bottom = min(y + height, image['height'])
    if right - left <= 0 or bottom - top <= 0:
        return None
    return [left, top, right - left, bottom - top]


def _listed(names: List[str], count: int = 5) -> str:
    """The first names, in words."""
    shown = ', '.join(map(repr, names[:count]))
    return shown + (', ...' if len(names) > count else '') or 'none'
