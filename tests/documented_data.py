# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Small data in the layouts that pages name, and files beside them."""
import json
import shutil
from pathlib import Path
from typing import Any, Callable, Sequence

import cv2
import numpy as np
from documented_commands import ROOT
from tiny import load_tool, run_tool

ITEMS = dict(train=16, val=16, test=16)
CELLS = ('Platelets', 'RBC', 'WBC')
BOX = '''<annotation><size><width>64</width><height>64</height></size>
<object><name>{}</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>40</xmax>
<ymax>50</ymax></bndbox></object></annotation>'''


def make_classes(*splits: str,
                 classes: int = 10,
                 used: int = 0,
                 each: int = 4) -> Callable[[Any, Path], None]:
    """Write folders of classes that differ in colour; all but the first
    ``used`` ones are empty.

    They are called by their numbers, as those of a network without names.
    """
    digits = len(str(classes - 1))

    def make(place: Any, path: Path) -> None:
        rng = np.random.default_rng(0)
        for split in splits:
            for label in range(classes):
                folder = path / split / f'{label:0{digits}d}'
                folder.mkdir(parents=True)
                for number in range(each if label < (used or classes) else 0):
                    image = rng.integers(0, 80, (32, 32, 3), np.uint8)
                    image[..., label % 3] += np.uint8(16 * (label % 10))
                    cv2.imwrite(str(folder / f'{number}.png'), image)

    return make


def make_digits(kind: str) -> Callable[[Any, Path], None]:
    """Write generated clips or scenes."""

    def make(place: Any, path: Path) -> None:
        from projects.digits.__main__ import KINDS
        KINDS[kind][0](ITEMS).write(path)

    return make


def write_photos(folder: Path, names: Sequence[str]) -> None:
    """Write photos of noise."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        image = rng.integers(0, 255, (64, 64, 3), np.uint8)
        cv2.imwrite(str(folder / name), image)


def make_voc(place: Any, path: Path) -> None:
    """Write photos of cells in VOC's layout."""
    names = [f'cell{k}' for k in range(6)]
    write_photos(path / 'JPEGImages', [f'{name}.jpg' for name in names])
    for number, name in enumerate(names):
        file = path / f'Annotations/{name}.xml'
        file.parent.mkdir(exist_ok=True)
        file.write_text(BOX.format(CELLS[number % 3]))
    (path / 'ImageSets/Main').mkdir(parents=True)
    for split in ('train', 'val', 'test'):
        (path / f'ImageSets/Main/{split}.txt').write_text('\n'.join(names))


def make_coco(place: Any, path: Path) -> None:
    """Write photos and boxes of COCO's classes in its layout."""
    from mmdet.datasets import CocoDataset
    names = [f'{k}.jpg' for k in range(4)]
    images = [
        dict(id=k, file_name=name, width=64, height=64)
        for k, name in enumerate(names)
    ]
    boxes = [
        dict(
            id=k,
            image_id=k,
            category_id=k + 1,
            bbox=[8, 8, 40, 40],
            area=1600,
            iscrowd=0) for k in range(len(names))
    ]
    categories = [
        dict(id=k, name=name)
        for k, name in enumerate(CocoDataset.METAINFO['classes'], 1)
    ]
    (path / 'annotations').mkdir(parents=True)
    for split in ('train2017', 'val2017'):
        write_photos(path / split, names)
        (path / f'annotations/instances_{split}.json').write_text(
            json.dumps(
                dict(images=images, annotations=boxes, categories=categories)))


def make_clip(place: Any, path: Path) -> None:
    """Give one video of a digit."""
    place.provide('data/clips')
    clips = (place.folder / 'data/clips/test').rglob('*.avi')
    shutil.copy(sorted(clips)[0], path)


def make_clips(place: Any, path: Path) -> None:
    """Give a folder of one."""
    path.mkdir()
    make_clip(place, path / 'digit.avi')


def make_list(place: Any, path: Path) -> None:
    """List the photos."""
    place.provide('photos')
    photos = sorted((place.folder / 'photos').rglob('*.jpg'))
    path.write_text('\n'.join(map(str, photos)))


def make_table(place: Any, path: Path) -> None:
    """Write a static network's row for a picture."""
    path.write_text('name,macs,top1\nstatic,9.,50.\n')


def make_point(place: Any, path: Path) -> None:
    """Write thresholds for any network of so many exits."""
    from mmdynperceiver.core import OperatingPoint
    if 'retinanet' in str(path):
        point = OperatingPoint((0.12, ) * 2, criterion='learned')
    else:
        point = OperatingPoint((0.12, ) * 3)
    point.save(path)


def make_checkpoint(config: Path, path: Path) -> None:
    """Write a checkpoint of a config, not trained."""
    import torch
    from mmengine.config import Config

    from mmdynperceiver.hosts.build import build_any_model
    model = build_any_model(Config.fromfile(str(config)))
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)


def make_published(place: Any, path: Path) -> None:
    """Write a network as its authors publish it."""
    import torch
    from test_core.reference import publish

    from mmdynperceiver.core import create_model
    net = create_model('regnety-800mf', num_classes=1000)
    torch.save(dict(model=publish(net.state_dict(), 'regnety')), path)


def make_torchvision(place: Any, path: Path) -> None:
    """Write weights as torchvision has them, not trained."""
    import torch
    from torchvision.models import mobilenet_v2
    torch.save(mobilenet_v2().state_dict(), path)


def make_web_runtime(place: Any, path: Path) -> None:
    """Write files under the names of onnxruntime-web's, which run nothing."""
    from projects.web_demo.build import FILES, VERSION
    (path / 'dist').mkdir(parents=True)
    (path / 'package.json').write_text(json.dumps(dict(version=VERSION)))
    for name in FILES:
        (path / 'dist' / name).write_bytes(b'')


def make_trunk(place: Any, path: Path) -> None:
    """Convert it for MMPretrain."""
    place.provide('reg800m.pth')
    assert run_tool('model_converters/convert_official',
                    place.folder / 'reg800m.pth', path) is None


def make_release(place: Any, path: Path) -> None:
    """Pack a network of the folder's name for CIFAR-10, not trained."""
    from mmdynperceiver.io.checksums import file_sha256
    name = 'cifar10-resnet22-w025'
    config = ROOT / ('configs/cifar/dyn-perceiver_resnet22-w025_1xb128-10e_'
                     'cifar10-folder.py')
    make_checkpoint(config, place.folder / 'cifar10.pth')
    assert run_tool('model_converters/checkpoint_to_folder', config,
                    place.folder / 'cifar10.pth', place.folder / name,
                    '--size', '32', '32') is None
    path.mkdir()
    load_tool('dev/release_weights').pack(place.folder / name,
                                          path / f'{name}.zip')
    # As where there is nothing but the release.
    shutil.rmtree(place.folder / name)
    digest = file_sha256(path / f'{name}.zip')
    (path / 'SHA256SUMS').write_text(f'{digest}  {name}.zip\n')
