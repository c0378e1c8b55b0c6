# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = '../retinanet.py'

# A classifier of configs/imagenet; its trunk is taken.
checkpoint = 'checkpoints/dyn-perceiver_regnety-1600mf_8xb128_in1k.pth'
model = dict(
    backbone=dict(
        arch='regnety-1600mf',
        init_cfg=dict(
            type='Pretrained', checkpoint=checkpoint, prefix='backbone.')),
    neck=dict(in_channels=[48, 120, 336, 888]))
