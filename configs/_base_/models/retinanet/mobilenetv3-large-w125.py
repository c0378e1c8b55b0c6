# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = '../retinanet.py'

# A classifier of configs/imagenet; its trunk is taken.
stem = 'dyn-perceiver_mobilenetv3-large-w125_8xb128-600e_in1k'
checkpoint = f'checkpoints/{stem}.pth'
model = dict(
    backbone=dict(
        arch='mobilenetv3-large',
        width=1.25,
        init_cfg=dict(
            type='Pretrained', checkpoint=checkpoint, prefix='backbone.')),
    neck=dict(in_channels=[32, 48, 104, 1200]))
