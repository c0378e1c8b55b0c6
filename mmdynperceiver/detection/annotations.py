# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Which annotations can be learned from or evaluated against."""
from collections import Counter
from typing import Any, Container, Dict, List, NamedTuple, Optional, Sequence

from mmengine.logging import print_log

from ..errors import InputError, first_few
from .coco_file import is_number, value_of

__all__ = ['TOLERANCE', 'AnnotationChecks']

POLICIES = ('raise', 'skip')
# Boxes often reach a pixel too far.
TOLERANCE = 1.
CORNERS = ('they fit as corners (x1, y1, x2, y2), but COCO boxes are (x, y, '
           'width, height): convert them')
NORMALISED = ('{} of {} boxes are in [0, 1]: COCO boxes are pixels (x, y, '
              'width, height)')
OPTION = "; the option on_bad_box='skip' leaves such annotations out"


class Fault(NamedTuple):
    """What is wrong with an annotation.

    Args:
        key (str): Its entry that is to blame.
        counted (str): Why it is left out, behind a number of annotations.
        why (str): The same of this one, behind the value.
        readable (bool): Whether an evaluation can take it as it is, as
            COCO's own does. Defaults to False.
    """

    key: str
    counted: str
    why: str
    readable: bool = False


NO_BOX = Fault('bbox', 'have no box of four numbers',
               'where four finite numbers (x, y, width, height) are expected')
NO_AREA = Fault('area', 'have no number as area', 'where a number is expected')
NO_CROWD = Fault('iscrowd', 'have an iscrowd of neither 0 nor 1',
                 'where 0 or 1 is expected')
OUTSIDE = Fault(
    'bbox', 'are empty or outside of their images',
    '(x, y, width, height), which is empty or outside of its image', True)
TINY = Fault('bbox', 'are smaller than a pixel',
             '(x, y, width, height), less than a pixel wide or high', True)
FLAT = Fault(
    'area', 'have no positive area',
    'where a positive number is expected; without it, width times height '
    'counts', True)


class AnnotationChecks:
    """Check the annotations of a file, and leave out the bad ones.

    Args:
        name (str): What messages call the file.
        policy (str): 'raise' or 'skip' a bad annotation. Defaults to
            'raise'.
        masks (bool): Whether ``segmentation`` is needed. Defaults to False.
        evaluation (bool): Whether the annotations are evaluated against:
            boxes stay as they are, as in COCO's own evaluation. Defaults to
            False.

    Raises:
        ValueError: If there is no such policy.
    """

    def __init__(self,
                 name: str,
                 policy: str = 'raise',
                 masks: bool = False,
                 evaluation: bool = False) -> None:
        if policy not in POLICIES:
            raise ValueError(f'on_bad_box must be one of '
                             f'{", ".join(POLICIES)}, got {policy!r}')
        self.name = name
        self.policy = policy
        self.masks = masks
        self.evaluation = evaluation

    def __call__(self, content: Dict[str, Any]) -> None:
        """Check, complete and thin out what ``read_annotations`` returns.

        A missing area becomes that of the box, and a missing ``iscrowd`` 0.

        Raises:
            InputError: For a bad annotation, unless they are skipped, and if
                all of them are bad.
        """
        annotations = content['annotations']
        self._images, self._categories = ({
            entry['id']: entry
            for entry in content[key]
        } for key in ('images', 'categories'))
        self._check_units(annotations)
        kept: List[Dict[str, Any]] = []
        faults: Dict[str, int] = Counter()
        cut = without_area = 0
        for annotation in annotations:
            without_area += annotation.get('area') is None
            fault = self._fault(annotation)
            if fault and not (fault.readable and self.evaluation):
                if self.policy == 'raise':
                    raise InputError(self._message(annotation, fault))
                faults[fault.counted] += 1
                continue
            if fault:
                faults[fault.counted] += 1
            elif not self.evaluation:
                box = annotation['bbox']
                annotation['bbox'] = self._usable(annotation)
                cut += annotation['bbox'] is not box
            kept.append(annotation)
        # pycocotools takes a match with the number 0 for none.
        for number, annotation in enumerate(kept, 1):
            annotation['id'] = number
        content['annotations'] = kept
        self._report(faults, cut, without_area, len(annotations))

    def _fault(self, annotation: Dict[str, Any]) -> Optional[Fault]:
        """Fill in what may be missing, and say what is wrong."""
        for key, what, known in (('image_id', 'are for images that',
                                  self._images),
                                 ('category_id', 'have a category that',
                                  self._categories)):
            if not _among(annotation.get(key), known):
                noun = 'images' if key == 'image_id' else 'categories'
                return Fault(
                    key, f'{what} it does not list',
                    f'but its {noun} have the ids {first_few(list(known))}')
        box = annotation.get('bbox')
        if not _is_box(box):
            return NO_BOX
        if annotation.get('area') is None:
            annotation['area'] = box[2] * box[3]
        if not is_number(annotation['area']):
            return NO_AREA
        if annotation.setdefault('iscrowd', 0) not in (0, 1):
            return NO_CROWD
        why = self.masks and mask_fault(
            annotation.get('segmentation'),
            self._images[annotation['image_id']])
        if why:
            return Fault('segmentation', 'have no usable mask', why)
        usable = self._usable(annotation)
        if usable is None:
            return OUTSIDE
        if min(usable[2:]) < 1:
            return TINY
        return FLAT if annotation['area'] <= 0 else None

    def _usable(self, annotation: Dict[str, Any]) -> Optional[List[float]]:
        """The part of a box that is in the image, if not almost all is."""
        box = annotation['bbox']
        image = self._images[annotation['image_id']]
        x, y, width, height = box
        left, top = max(x, 0), max(y, 0)
        right = min(x + width, image['width'])
        bottom = min(y + height, image['height'])
        if right - left <= 0 or bottom - top <= 0:
            return None
        inside = [left, top, right - left, bottom - top]
        off = max(abs(a - b) for a, b in zip(box, inside))
        return box if off <= TOLERANCE else inside

    def _check_units(self, annotations: Sequence[dict]) -> None:
        """Refuse boxes that are shares of the image, or pairs of corners."""
        boxes = [(annotation['bbox'], self._images[annotation['image_id']])
                 for annotation in annotations
                 if _among(annotation.get('image_id'), self._images)
                 and _is_box(annotation.get('bbox'))]
        shares = sum(
            min(box) >= 0 and max(box) <= 1
            and min(image['width'], image['height']) > 1
            for box, image in boxes)
        hint = NORMALISED.format(f'{shares:,}', f'{len(boxes):,}')
        if boxes and shares == len(boxes):
            raise InputError(f'{self.name!r}: {hint}')
        self._hint = f' ({hint})' if 2 * shares > len(boxes) else ''
        out = sum(_reaches_out(box, image) for box, image in boxes)
        if 2 * out > len(boxes) and all(
                _fits_as_corners(box, image) for box, image in boxes):
            message = (f'{out} of {len(boxes)} boxes of {self.name!r} reach '
                       f'out of their images, and {CORNERS}')
            if self.policy == 'raise':
                raise InputError(f"{message}, or cut them with the option "
                                 f"on_bad_box='skip'")
            print_log(message, 'current', 30)

    def _message(self, annotation: Dict[str, Any], fault: Fault) -> str:
        """What is wrong with one annotation, in a line."""
        where = ''
        if fault.key != 'image_id':
            image = self._images[annotation['image_id']]
            where = (f' (image {image["file_name"]!r}, {image["width"]}x'
                     f'{image["height"]})')
        return (f'annotation {annotation["id"]!r} of {self.name!r}{where} has '
                f'{value_of(annotation, fault.key)}, {fault.why}{self._hint}'
                f'{OPTION}')

    def _report(self, faults: Dict[str, int], cut: int, without_area: int,
                total: int) -> None:
        """Log how many annotations are bad, and refuse if all are."""
        number = sum(faults.values())
        if number:
            reasons = ', '.join(f'{count:,} {why}'
                                for why, count in faults.items())
            done = 'found' if self.evaluation else 'left out'
            message = (f'{self.name!r}: {done} {number:,} of {total:,} '
                       f'annotations: {reasons}{self._hint}')
            if number == total:
                raise InputError(f'{message}; none is left')
            if 2 * number > total:
                message = f'MORE THAN HALF ARE BAD: {message}'
            print_log(message, 'current', 30)
        if cut:
            print_log(
                f'{self.name!r}: cut {cut:,} of {total:,} boxes to their '
                f'images', 'current', 30)
        if without_area:
            print_log(
                f'{self.name!r}: {without_area:,} of {total:,} annotations '
                f'have no area: width times height counts', 'current')


def mask_fault(mask: Any, image: Dict[str, Any]) -> Optional[str]:
    """What is wrong with a ``segmentation`` for an image's entry, or None.

    It must be polygons [x1, y1, x2, y2, ...], or a run-length encoding.
    """
    if isinstance(mask, list):
        if mask and all(
                isinstance(polygon, list) and len(polygon) >= 6
                and len(polygon) % 2 == 0 and all(map(is_number, polygon))
                for polygon in mask):
            return None
        return 'where polygons of at least three points are expected'
    if not isinstance(mask, dict) or 'counts' not in mask:
        return 'where polygons or a run-length encoding are expected'
    size = [image['height'], image['width']]
    if mask.get('size') != size:
        return f'whose size is not that of the image, {size}'
    counts = mask['counts']
    if isinstance(counts, list):
        whole = all(type(count) is int and count >= 0 for count in counts)
        if not whole or sum(counts) != size[0] * size[1]:
            return 'whose counts do not add up to the image'
    elif not isinstance(counts, str):
        return 'whose counts are neither a list nor a text'
    return None


def _is_box(box: Any) -> bool:
    """Whether a box is one at all."""
    return isinstance(box, list) and len(box) == 4 and all(map(is_number, box))


def _reaches_out(box: Sequence[float], image: Dict[str, Any]) -> bool:
    """Whether a box ends outside of its image."""
    return (box[0] + box[2] > image['width'] + TOLERANCE
            or box[1] + box[3] > image['height'] + TOLERANCE)


def _fits_as_corners(box: Sequence[float], image: Dict[str, Any]) -> bool:
    """Whether a box may be (x1, y1, x2, y2)."""
    return (0 <= box[0] < box[2] <= image['width'] + TOLERANCE
            and 0 <= box[1] < box[3] <= image['height'] + TOLERANCE)


def _among(value: Any, known: Container[Any]) -> bool:
    """Whether an id is known; it may be anything that JSON holds."""
    return type(value) in (int, str) and value in known
