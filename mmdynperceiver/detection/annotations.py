# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Which annotations can be learned from or evaluated against."""
from collections import Counter
from typing import Any, Container, Dict, List, NamedTuple, Optional, Sequence

from mmengine.logging import print_log

from ..datasets.class_names import listed
from ..errors import InputError
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
        """Check, complete and thin out the annotations in place.

        Args:
            content (dict): What :func:`read_annotations` returns. A missing
                area becomes that of the box, and a missing ``iscrowd`` 0.

        Raises:
            InputError: For a bad annotation, unless they are skipped, and if
                all of them are bad.
        """
        annotations = content['annotations']
        self._images = {image['id']: image for image in content['images']}
        self._categories = {
            entry['id']: entry
            for entry in content['categories']
        }
        self._check_units(annotations)
        kept, faults, cut, without_area = [], Counter(), 0, 0
        for annotation in annotations:
            without_area += annotation.get('area') is None
            fault = self._complete(annotation) or self._box_fault(annotation)
            if fault and fault.readable and self.evaluation:
                faults[fault.counted] += 1
            elif fault and self.policy == 'raise':
                raise InputError(self._message(annotation, fault))
            elif fault:
                faults[fault.counted] += 1
                continue
            elif not self.evaluation:
                cut += self._cut(annotation)
            kept.append(annotation)
        # pycocotools takes a match with the number 0 for none.
        for number, annotation in enumerate(kept, 1):
            annotation['id'] = number
        content['annotations'] = kept
        self._report(faults, cut, without_area, len(annotations))

    def _complete(self, annotation: Dict[str, Any]) -> Optional[Fault]:
        """Fill in what may be missing, or say what may not."""
        for fault_of in (self._owner_fault, _box_value_fault):
            fault = fault_of(annotation)
            if fault:
                return fault
        box = annotation['bbox']
        if annotation.get('area') is None:
            annotation['area'] = box[2] * box[3]
        elif not is_number(annotation['area']):
            return Fault('area', 'have no number as area',
                         'where a number is expected')
        annotation.setdefault('iscrowd', 0)
        if annotation['iscrowd'] not in (0, 1):
            return Fault('iscrowd', 'have an iscrowd of neither 0 nor 1',
                         'where 0 or 1 is expected')
        if self.masks:
            image = self._images[annotation['image_id']]
            why = mask_fault(annotation.get('segmentation'), image)
            if why:
                return Fault('segmentation', 'have no usable mask', why)
        return None

    def _owner_fault(self, annotation: Dict[str, Any]) -> Optional[Fault]:
        """Whether image and category are in the file."""
        if not _among(annotation.get('image_id'), self._images):
            return Fault(
                'image_id', 'are for images that it does not list',
                f'but its images have the ids '
                f'{listed(list(self._images))}')
        if not _among(annotation.get('category_id'), self._categories):
            return Fault(
                'category_id', 'have a category that it does not list',
                f'but its categories have the ids '
                f'{listed(list(self._categories))}')
        return None

    def _box_fault(self, annotation: Dict[str, Any]) -> Optional[Fault]:
        """Whether training can use the box."""
        box = annotation['bbox']
        inside = _inside(box, self._images[annotation['image_id']])
        if inside is None:
            return Fault(
                'bbox', 'are empty or outside of their images',
                '(x, y, width, height), which is empty or outside of its '
                'image', True)
        used = inside if _distance(box, inside) > TOLERANCE else box
        if min(used[2:]) < 1:
            return Fault(
                'bbox', 'are smaller than a pixel',
                '(x, y, width, height), less than a pixel wide or high', True)
        if annotation['area'] <= 0:
            return Fault(
                'area', 'have no positive area',
                'where a positive number is expected; without it, width '
                'times height counts', True)
        return None

    def _cut(self, annotation: Dict[str, Any]) -> bool:
        """Cut a box to its image; whether that was needed."""
        box = annotation['bbox']
        inside = _inside(box, self._images[annotation['image_id']])
        if _distance(box, inside) <= TOLERANCE:
            return False
        annotation['bbox'] = inside
        return True

    def _check_units(self, annotations: Sequence[dict]) -> None:
        """Refuse boxes that are shares of the image, or pairs of corners."""
        boxes = [(annotation['bbox'], self._images[annotation['image_id']])
                 for annotation in annotations
                 if _among(annotation.get('image_id'), self._images)
                 and _box_value_fault(annotation) is None]
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
            _warn(message)

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
            _warn(message)
        if cut:
            _warn(f'{self.name!r}: cut {cut:,} of {total:,} boxes to their '
                  f'images')
        if without_area:
            print_log(
                f'{self.name!r}: {without_area:,} of {total:,} annotations '
                f'have no area: width times height counts',
                logger='current')


def mask_fault(mask: Any, image: Dict[str, Any]) -> Optional[str]:
    """What is wrong with a ``segmentation``, or None.

    Args:
        mask (Any): Polygons [x1, y1, x2, y2, ...], or a run-length encoding.
        image (dict): The image's entry, with its size.
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


def _box_value_fault(annotation: Dict[str, Any]) -> Optional[Fault]:
    """Whether the box is one at all."""
    box = annotation.get('bbox')
    if isinstance(box, list) and len(box) == 4 and all(map(is_number, box)):
        return None
    return Fault(
        'bbox', 'have no box of four numbers',
        'where four finite numbers (x, y, width, height) are '
        'expected')


def _inside(box: List[float], image: Dict[str, Any]) -> Optional[List[float]]:
    """The part of a box that is in the image, or None."""
    x, y, width, height = box
    left, top = max(x, 0), max(y, 0)
    right = min(x + width, image['width'])
    bottom = min(y + height, image['height'])
    if right - left <= 0 or bottom - top <= 0:
        return None
    return [left, top, right - left, bottom - top]


def _distance(box: Sequence[float], other: Sequence[float]) -> float:
    """The largest difference of two boxes, in pixels."""
    return max(abs(a - b) for a, b in zip(box, other))


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


def _warn(message: str) -> None:
    """Log a warning."""
    print_log(message, logger='current', level=30)
