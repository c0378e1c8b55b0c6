# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Configs of detection."""
import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from tiny_detector import ROOT, make_batch

from mmdynperceiver.core import ConvTrunk

LEAVES = sorted(
    path for folder in ('coco', 'bccd')
    for path in (ROOT / 'configs' / folder).glob('*.py'))
SMALL = dict(arch='resnet18', width=0.25)


@pytest.mark.parametrize('path', LEAVES, ids=lambda path: path.stem)
def test_builds(path):
    config = Config.fromfile(str(path))
    with DefaultScope.overwrite_default_scope(config.default_scope):
        model = MODELS.build(config.model)
    backbone, neck = model.backbone, config.model.neck
    assert list(backbone.out_channels) == list(neck.in_channels)
    assert backbone.out_strides == (4, 8, 16, 32)
    static = '_dyn-perceiver' not in path.stem
    assert isinstance(backbone.net, ConvTrunk) == static
    # Pretrained with the classifier of the same name, or not at all.
    checkpoint = (config.model.backbone.get('init_cfg')
                  or {}).get('checkpoint')
    if checkpoint:
        start, arch = checkpoint.split('/')[1].split('_')[:2]
        assert start == ('static' if static else 'dyn-perceiver')
        assert f'{arch}_' in path.stem
    assert len(path.read_text().splitlines()) <= 40


@pytest.mark.parametrize('name', [
    'retinanet_dyn-perceiver-regnety-1600mf_fpn_1x_coco',
    'retinanet_regnety-1600mf_fpn_1x_coco',
    'early-exit-retinanet_dyn-perceiver-regnety-1600mf_fpn_1x_coco',
    'faster-rcnn_dyn-perceiver-regnety-1600mf_fpn_1x_coco'
])
def test_a_step_with_a_small_trunk(name):
    """Neck, head and recipe are those of the config."""
    config = Config.fromfile(str(ROOT / f'configs/coco/{name}.py'))
    backbone = config.model.backbone
    backbone.update(SMALL, init_cfg=None)
    if 'num_latents' in backbone:
        backbone.update(num_latents=16, depth_factor=(0, 0, 0, 0))
    config.model.neck.in_channels = [16, 32, 64, 128]
    config.model.neck.out_channels = 32
    for part in ('bbox_head', 'rpn_head'):
        if part in config.model:
            config.model[part].update(in_channels=32, feat_channels=32)
    if 'roi_head' in config.model:
        roi = config.model.roi_head
        roi.bbox_roi_extractor.out_channels = roi.bbox_head.in_channels = 32
    with DefaultScope.overwrite_default_scope(config.default_scope):
        model = MODELS.build(config.model)
    model.train()
    data = make_batch(model, number=2, training=True)
    losses = model(**data, mode='loss')
    model.parse_losses(losses)[0].backward()
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    without = [
        n for n, p in model.named_parameters()
        if p.requires_grad and p.grad is None
    ]
    assert trained and not without
    with torch.no_grad():
        model.eval()(**make_batch(model, number=1), mode='predict')


def test_evaluation_files_follow_the_data():
    for path in LEAVES:
        config = Config.fromfile(str(path))
        for name in ('val', 'test'):
            dataset = config[f'{name}_dataloader'].dataset
            assert config[f'{name}_evaluator'].ann_file == (
                config.data_root + dataset.ann_file)


def test_inferencer_by_name():
    name = 'retinanet_dyn-perceiver-resnet22-w025_1xb8-20e_bccd'
    found = DetInferencer.list_models('mmdet', '.*dyn-perceiver.*')
    assert name in found and all('coco' in n or 'bccd' in n for n in found)
    inferencer = DetInferencer(name, device='cpu')
    assert type(inferencer.model.backbone).__name__ == \
        'DynPerceiverDetBackbone'
    result = inferencer(np.zeros((32, 48, 3), np.uint8))
    assert list(result['predictions'][0]) == ['labels', 'scores', 'bboxes']
