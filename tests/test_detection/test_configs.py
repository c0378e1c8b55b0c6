# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Configs of detection."""
import re

import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer
from mmdet.registry import MODELS
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from tiny_detector import ROOT, make_batch

from mmdynperceiver.core import ConvTrunk

LEAVES = sorted(
    path for detector in ('retinanet', 'rcnn')
    for path in (ROOT / 'configs').glob(f'[!_]*/*{detector}_*.py'))
SMALL = dict(arch='resnet18', width=0.25)


@pytest.mark.parametrize('path', LEAVES, ids=lambda path: path.stem)
def test_neck_and_checkpoint_fit_the_trunk(path):
    config = Config.fromfile(path).model
    backbone = MODELS.build(config.backbone)
    assert list(backbone.out_channels) == list(config.neck.in_channels)
    assert backbone.out_strides == (4, 8, 16, 32)
    static = not re.search('dyn-perceiver|early-exit', path.stem)
    assert isinstance(backbone.net, ConvTrunk) == static
    # Pretrained with the classifier of the same name, or not on ImageNet.
    checkpoint = config.backbone.get('init_cfg', {}).get('checkpoint', '')
    if checkpoint.startswith('checkpoints/'):
        start, arch = checkpoint.split('/')[1].split('_')[:2]
        assert start == ('static' if static else 'dyn-perceiver')
        assert f'{arch}_' in path.stem


@pytest.mark.parametrize('name', [
    'coco/retinanet_dyn-perceiver-regnety-1600mf_fpn_1x_coco',
    'coco/retinanet_regnety-1600mf_fpn_1x_coco',
    'coco/early-exit-retinanet_dyn-perceiver-regnety-1600mf_fpn_1x_coco',
    'coco/faster-rcnn_dyn-perceiver-regnety-1600mf_fpn_1x_coco',
    'coco/mask-rcnn_dyn-perceiver-regnety-1600mf_fpn_1x_coco',
    'demo/early-exit-retinanet_resnet22-w025_1xb16_scenes'
])
def test_a_step_with_a_small_trunk(name):
    """Neck, head and recipe are those of the config."""
    config = Config.fromfile(ROOT / f'configs/{name}.py').model
    backbone = config.backbone
    backbone.update(SMALL, init_cfg=None)
    if 'num_latents' in backbone:
        backbone.update(num_latents=16, depth_factor=(0, 0, 0, 0))
    config.neck.update(in_channels=[16, 32, 64, 128], out_channels=32)
    for part in ('bbox_head', 'rpn_head'):
        if part in config:
            config[part].update(in_channels=32, feat_channels=32)
    if 'roi_head' in config:
        for name, part in config.roi_head.items():
            if 'extractor' in name:
                part.out_channels = 32
            elif name.endswith('_head'):
                part.in_channels = 32
    model = MODELS.build(config).train()
    data = make_batch(model, number=2, training=True)
    for sample in data['data_samples']:
        masks = np.ones((len(sample.gt_instances), 64, 64), np.uint8)
        sample.gt_instances.masks = BitmapMasks(masks, 64, 64)
    losses = model(**data, mode='loss')
    model.parse_losses(losses)[0].backward()
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert [n for n, p in trained.items() if p.grad is None] == []
    with torch.no_grad():
        model.eval()(**make_batch(model, number=1), mode='predict')


def test_evaluation_files_follow_the_data():
    for path in LEAVES:
        config = Config.fromfile(path)
        for name in ('val', 'test'):
            dataset = config[f'{name}_dataloader'].dataset
            assert config[f'{name}_evaluator'].ann_file == (
                config.data_root + dataset.ann_file)


def test_inferencer_by_name():
    name = 'retinanet_dyn-perceiver-resnet22-w025_1xb8-20e_bccd'
    found = DetInferencer.list_models('mmdet', '.*dyn-perceiver.*')
    assert name in found and all('coco' in n or 'bccd' in n for n in found)
    inferencer = DetInferencer(name, device='cpu')
    assert len(inferencer.model.backbone.net.latents) == 8
    result = inferencer(np.zeros((32, 48, 3), np.uint8))
    assert list(result['predictions'][0]) == ['labels', 'scores', 'bboxes']
