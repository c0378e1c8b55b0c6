# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Lists, annotations and images, as the data sets read them."""
import importlib.util
import io
import os
import random
from typing import Any, Callable

import numpy as np
from mmengine.registry import DefaultScope
from PIL import Image

from mmdynperceiver.classification import CheckedImageFolder
from mmdynperceiver.datasets.hold_out import read_list
from mmdynperceiver.deploy.preprocessing import Preprocessing
from fuzz_base import CLASSES, Files, attempt, check
from mutations import damage_bytes, damage_json, damage_text

__all__ = ['coco', 'image', 'image_list', 'video_list']

SIZE = 32


def read_all(scope: str, kind: Callable[..., Any], **settings: Any) -> Any:
    """What a data set of a host says of its samples; None if refused."""

    def build() -> Any:
        with DefaultScope.overwrite_default_scope(scope):
            data = kind(pipeline=[], **settings)
            return [data.get_data_info(k) for k in range(len(data))]

    return attempt(build)


def image_list(files: Files) -> Any:
    """Lists of images and labels, and lists to leave out."""
    right = ''
    for label, name in enumerate(CLASSES):
        for k in range(3):
            right += f'{name}/{k}.png {label}\n'
            Image.new('RGB',
                      (4, 4)).save(files.path('train', name, f'{k}.png'))

    def run(rng: random.Random) -> None:
        files.write('l.txt', damage_text(rng, right))
        exclude = ''
        if rng.random() < .3:
            exclude = files.write('x.txt', damage_text(rng,
                                                       'train/ant/0.png\n'))
            attempt(read_list, exclude)
        for row in read_all(
                'mmpretrain',
                CheckedImageFolder,
                data_root=files.folder,
                ann_file='l.txt',
                data_prefix='train',
                exclude=exclude) or ():
            check(0 <= int(row['gt_label']) < 1000, f'a sample {row}')

    return run


def image(files: Files) -> Any:
    """Images, in deployment and in training."""
    pixels = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3)).astype(
        np.uint8)
    whole = {}
    for ending in ('bmp', 'gif', 'jpeg', 'png', 'ppm', 'tiff', 'webp'):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, ending)
        whole[ending] = buffer.getvalue()

    def first(on_broken: str) -> Any:
        """Read it as training and testing do."""
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            return CheckedImageFolder(
                data_root=files.folder,
                on_broken=on_broken,
                test_mode=True,
                pipeline=[
                    dict(type='LoadImageFromFile'),
                    dict(type='PackInputs')
                ])[0]

    def run(rng: random.Random) -> None:
        ending = rng.choice(sorted(whole))
        path = files.write(
            os.path.join('c', f'a.{ending}'), damage_bytes(rng, whole[ending]))
        try:
            for decoder in ('pillow', 'cv2'):
                read = Preprocessing([SIZE, SIZE], [0] * 3, [1] * 3, decoder)
                found = attempt(read, path)
                check(found is None or found.shape == (3, SIZE, SIZE),
                      'an image of another shape')
            attempt(first, rng.choice(('raise', 'skip')))
        finally:
            os.unlink(path)

    return run


def coco(files: Files) -> Any:
    """Annotations of boxes."""
    right = dict(
        images=[
            dict(id=k, file_name=f'{k}.png', width=64, height=48)
            for k in range(3)
        ],
        categories=[
            dict(id=k, name=name) for k, name in enumerate(CLASSES, 1)
        ],
        annotations=[
            dict(
                id=k,
                image_id=k % 3,
                category_id=1 + k % 3,
                bbox=[2 * k, 3, 10, 12],
                area=120,
                iscrowd=0) for k in range(6)
        ])

    def run(rng: random.Random) -> None:
        if importlib.util.find_spec('mmcv._ext') is None:
            return
        from mmdynperceiver.detection import CheckedCocoDataset
        for row in read_all(
                'mmdet',
                CheckedCocoDataset,
                ann_file=files.write('a.json', damage_json(rng, right)),
                data_prefix=dict(img=files.folder),
                metainfo=dict(classes=CLASSES),
                on_bad_box=rng.choice(('raise', 'skip')),
                filter_cfg=dict(filter_empty_gt=True)) or ():
            for each in row['instances']:
                x0, y0, x1, y1 = each['bbox']
                check(
                    0 <= x0 < x1 <= 64 and 0 <= y0 < y1 <= 48
                    and 0 <= each['bbox_label'] < 3, f'a box {each}')

    return run


def video_list(files: Files) -> Any:
    """Lists of videos and labels."""
    right = ''.join(f'{k}.mp4 {k % 3}\n' for k in range(6))

    def run(rng: random.Random) -> None:
        from mmdynperceiver.recognition import CheckedVideoDataset
        for row in read_all(
                'mmaction',
                CheckedVideoDataset,
                ann_file=files.write('v.txt', damage_text(rng, right)),
                data_prefix=dict(video=files.folder)) or ():
            check(0 <= row['label'] < 10**6, f'a sample {row}')

    return run
