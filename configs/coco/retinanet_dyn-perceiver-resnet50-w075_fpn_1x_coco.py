# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = ['./retinanet_dyn-perceiver-regnety-1600mf_fpn_1x_coco.py']

checkpoint = 'checkpoints/dyn-perceiver_resnet50-w075_8xb128_in1k.pth'
model = dict(
    backbone=dict(
        arch='resnet50', width=0.75, init_cfg=dict(checkpoint=checkpoint)),
    neck=dict(in_channels=[192, 384, 768, 1536]))
