# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = '../retinanet.py'

# A classifier of configs/imagenet; its trunk is taken.
checkpoint = 'checkpoints/dyn-perceiver_regnety-3200mf_8xb128_in1k.pth'
model = dict(
    backbone=dict(
        arch='regnety-3200mf',
        init_cfg=dict(
            type='Pretrained', checkpoint=checkpoint, prefix='backbone.')),
    neck=dict(in_channels=[72, 216, 576, 1512]))
