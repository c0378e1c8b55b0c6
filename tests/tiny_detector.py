# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A detector and annotations small enough for tests."""
import copy
import json
from pathlib import Path

import cv2
import numpy as np

from projects.digits import SceneFolder

ROOT = Path(__file__).resolve().parents[1]
DEMO_CONFIG = (
    ROOT / 'configs/demo/early-exit-retinanet_resnet22-w025_1xb16_scenes.py')
TRUNK = dict(
    arch='resnet18',
    width=0.25,
    num_latents=16,
    depth_factor=(0, 0, 1 / 9, 1 / 3),
    drop_path_rate=0.)


def detector_config(early=True, **changes):
    """Config of a detector of ten classes; by default one that stops early."""
    from mmengine.config import Config
    model = Config.fromfile(str(DEMO_CONFIG)).model
    model.backbone = dict(type='DynPerceiverDetBackbone', **TRUNK)
    if not early:
        model.type = 'RetinaNet'
    for name, value in copy.deepcopy(changes).items():
        # As a whole: nothing of the config's own part stays.
        model.pop(name, None)
        model[name] = value
    return model


def build_detector(**kwargs):
    """Build it, in MMDetection's scope."""
    from mmdet.registry import MODELS
    from mmengine.registry import DefaultScope

    import mmdynperceiver.detection  # noqa: F401
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(detector_config(**kwargs))


def make_batch(model, number=4, size=64, training=False, seed=0):
    """Random images with a box or two each, ready for the model."""
    import torch
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData
    rng = np.random.default_rng(seed)
    samples, images = [], []
    for i in range(number):
        corner = rng.integers(0, size // 2, (1 + i % 2, 2))
        boxes = np.concatenate([corner, corner + size // 3], 1)
        sample = DetDataSample(
            metainfo=dict(
                img_id=i + 1,
                img_shape=(size, size),
                ori_shape=(size, size),
                scale_factor=(1., 1.)))
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor(boxes, dtype=torch.float32),
            labels=torch.tensor(rng.integers(0, 10, len(boxes))))
        samples.append(sample)
        images.append(
            torch.tensor(
                rng.integers(0, 256, (3, size, size)), dtype=torch.uint8))
    return model.data_preprocessor(
        dict(inputs=images, data_samples=samples), training)


def make_scenes(root, train=8, val=6, test=6):
    """Write a folder of scenes."""
    counts = dict(train=train, val=val, test=test)
    SceneFolder(counts, max_digits=3).write(root)
    return Path(root)


def write_annotations(root, boxes, size=40, categories=('a', 'b')):
    """Write one image with boxes in COCO's format; return the file."""
    root = Path(root)
    cv2.imwrite(
        str(root / 'image.png'), np.full((size, size, 3), 90, np.uint8))
    content = dict(
        images=[dict(id=1, file_name='image.png', width=size, height=size)],
        annotations=[
            dict(
                id=number,
                image_id=1,
                category_id=1,
                bbox=box,
                area=box[2] * box[3],
                iscrowd=0) for number, box in enumerate(boxes, 1)
        ],
        categories=[
            dict(id=number, name=name)
            for number, name in enumerate(categories, 1)
        ])
    path = root / 'annotations.json'
    path.write_text(json.dumps(content))
    return path


def spread_gains(model, number=8):
    """Give predicted gains of some images mean 0 and deviation 1."""
    import torch
    images = make_batch(model, number=number)['inputs']
    with torch.no_grad():
        for gains, (_, logits) in zip(model.exits.gains, model._walk(images)):
            gains.fc2.bias.add_(logits.mean()).div_(logits.std())
            gains.fc2.weight.div_(logits.std())
    return model
