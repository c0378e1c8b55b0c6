# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = '../retinanet.py'

# A classifier of configs/imagenet; its trunk is taken.
checkpoint = 'checkpoints/dyn-perceiver_resnet50-w075_8xb128_in1k.pth'
model = dict(
    backbone=dict(
        arch='resnet50',
        width=0.75,
        init_cfg=dict(
            type='Pretrained', checkpoint=checkpoint, prefix='backbone.')),
    neck=dict(in_channels=[192, 384, 768, 1536]))
