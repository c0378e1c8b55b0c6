# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Write the annotations of a Pascal VOC folder in COCO's format.

The folder holds ``Annotations/*.xml``, ``JPEGImages`` and lists of image
names, ``ImageSets/Main/<set>.txt``; the images stay where they are.

    python tools/dataset_converters/voc_to_coco.py data/BCCD
"""
import argparse
import glob
import math
import os
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path, PurePath
from typing import Any, Dict, List, Sequence, Tuple

import mmdynperceiver  # noqa: F401  (fixes the stack before it is imported)
from mmdynperceiver.cli import common
from mmdynperceiver.datasets.lists import read_list
from mmdynperceiver.errors import InputError
from mmdynperceiver.io.atomic import write_json

CORNERS = ('xmin', 'ymin', 'xmax', 'ymax')


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('root', type=Path, help='folder in the layout of VOC')
    parser.add_argument(
        '--sets',
        nargs='+',
        default=['train', 'val', 'test'],
        help='lists of images to convert (default: train val test)')
    parser.add_argument(
        '--classes',
        nargs='+',
        help='classes in the order of their labels (default: those of the '
        'annotations, in the order of the alphabet)')
    parser.add_argument(
        '--out',
        type=Path,
        help='where <set>.json go (default: ROOT/annotations)')
    parser.add_argument(
        '--overwrite', action='store_true', help='replace files')
    return parser.parse_args()


def read_names(path: Path) -> List[str]:
    """Read a list of image names; what follows one in its line is left out."""
    names = [line.split()[0] for line in read_list(path)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f'{twice[0]!r} is there twice in the list of images '
                         f'{str(path)!r}')
    return names


def read_image(root: Path, name: str) -> Tuple[Dict[str, Any], List[tuple]]:
    """Read the annotations of one image, named without its ending.

    Returns:
        tuple: COCO's entry without id, and class, box (x, y, width, height)
        and whether it is a difficult one, of each object.
    """
    path = root / 'Annotations' / f'{name}.xml'
    try:
        tree = ElementTree.parse(path).getroot()
        size = [int(tree.findtext(f'size/{k}')) for k in ('width', 'height')]
        if min(size) <= 0:
            raise ValueError(f'the image has the size {size[0]}x{size[1]}')
        objects = [read_object(entry) for entry in tree.iter('object')]
    except OSError as error:
        raise InputError(f'cannot read the annotations {str(path)!r}: '
                         f'{error.strerror}') from error
    except (ElementTree.ParseError, LookupError, TypeError,
            ValueError) as error:  # LookupError: an unknown encoding
        raise InputError(f'{str(path)!r} does not hold annotations in the '
                         f'format of VOC: {error}') from error
    # The list names the image; some files carry another name inside.
    folder = root / 'JPEGImages'
    found = sorted(
        image for image in folder.glob(f'{glob.escape(name)}.*')
        if image.name == f'{PurePath(name).name}{image.suffix}')
    if not found:
        raise InputError(f'there is no image {str(folder / name)!r}.*')
    entry = dict(
        file_name=found[0].relative_to(folder).as_posix(),
        width=size[0],
        height=size[1])
    return entry, objects


def read_object(entry: ElementTree.Element) -> tuple:
    """Class, box and difficulty of one object."""
    name = (entry.findtext('name') or '').strip()
    if not name:
        raise ValueError('an object has no name')
    corners = [entry.findtext(f'bndbox/{k}') for k in CORNERS]
    if None in corners:
        raise ValueError(f'the box of an object {name!r} lacks a corner')
    x1, y1, x2, y2 = map(float, corners)
    if not all(map(math.isfinite, (x1, y1, x2, y2))) or x2 < x1 or y2 < y1:
        raise ValueError(f'an object {name!r} has the box {corners} '
                         f'({", ".join(CORNERS)})')
    difficult = entry.findtext('difficult', '0').strip() == '1'
    return name, [x1, y1, x2 - x1, y2 - y1], difficult


def count_unusable(content: dict) -> int:
    """Number of boxes that are empty, or outside of their images."""
    number = 0
    for annotation in content['annotations']:
        x, y, width, height = annotation['bbox']
        image = content['images'][annotation['image_id'] - 1]
        number += (
            min(x + width, image['width']) <= max(x, 0)
            or min(y + height, image['height']) <= max(y, 0))
    return number


def convert(images: Sequence[tuple], classes: Sequence[str]) -> dict:
    """Put what ``read_image`` gives in COCO's format; all ids start at 1."""
    ids = {name: number for number, name in enumerate(classes, 1)}
    content: Dict[str, list] = dict(
        images=[],
        annotations=[],
        categories=[
            # What COCO's own tools and some scripts of MMDetection read.
            dict(id=number, name=name, supercategory='none')
            for name, number in ids.items()
        ])
    for number, (image, objects) in enumerate(images, 1):
        content['images'].append(dict(image, id=number))
        for name, box, difficult in objects:
            if name not in ids:
                raise InputError(
                    f'{image["file_name"]!r} has an object of the class '
                    f'{name!r}, which is none of {", ".join(classes)}')
            content['annotations'].append(
                dict(
                    id=len(content['annotations']) + 1,
                    image_id=number,
                    category_id=ids[name],
                    bbox=box,
                    area=box[2] * box[3],
                    # Found or not, it does not count.
                    iscrowd=int(difficult)))
    return content


def main() -> None:
    """Read everything, then write."""
    args = parse_args()
    out = args.out or args.root / 'annotations'
    paths = {name: out / f'{name}.json' for name in args.sets}
    for path in paths.values():
        if path.exists() and not args.overwrite:
            raise InputError(f'{str(path)!r} is there already; --overwrite '
                             f'replaces it')
    common.check_writable_folder(os.fspath(out))
    folder = args.root / 'ImageSets' / 'Main'
    lists = {name: read_names(folder / f'{name}.txt') for name in args.sets}
    images = {
        name: [read_image(args.root, image) for image in names]
        for name, names in lists.items()
    }
    classes = args.classes or sorted({
        label
        for part in images.values()
        for _, objects in part
        for label, _, _ in objects
    })
    contents = {name: convert(part, classes) for name, part in images.items()}
    for name, content in contents.items():
        write_json(paths[name], content)
        print(f'wrote {paths[name]}: {len(content["images"])} images, '
              f'{len(content["annotations"])} boxes of {", ".join(classes)}')
        unusable = count_unusable(content)
        if unusable:
            print(f'{unusable} of them are empty or outside of their images: '
                  f"CheckedCocoDataset's on_bad_box='skip' leaves them out")


if __name__ == '__main__':
    common.run_tool(main)
