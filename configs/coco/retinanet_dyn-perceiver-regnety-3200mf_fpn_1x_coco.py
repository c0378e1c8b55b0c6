# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = ['./retinanet_dyn-perceiver-regnety-1600mf_fpn_1x_coco.py']

checkpoint = 'checkpoints/dyn-perceiver_regnety-3200mf_8xb128_in1k.pth'
model = dict(
    backbone=dict(arch='regnety-3200mf', init_cfg=dict(checkpoint=checkpoint)),
    neck=dict(in_channels=[72, 216, 576, 1512]))
