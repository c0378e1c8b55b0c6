# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = ['./retinanet_dyn-perceiver-regnety-1600mf_fpn_1x_coco.py']

stem = 'dyn-perceiver_mobilenetv3-large-w125_8xb128-600e_in1k'
model = dict(
    backbone=dict(
        arch='mobilenetv3-large',
        width=1.25,
        init_cfg=dict(checkpoint=f'checkpoints/{stem}.pth')),
    neck=dict(in_channels=[32, 48, 104, 1200]))
