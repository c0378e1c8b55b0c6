# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = [
    '../_base_/models/retinanet/regnety-1600mf.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/detection_1x_adamw.py',
    '../_base_/detection_runtime.py',
]

# The static network to compare with: the feature branch alone.
checkpoint = 'checkpoints/static_regnety-1600mf_8xb128_in1k.pth'
model = dict(
    backbone=dict(branches='feature', init_cfg=dict(checkpoint=checkpoint)))
