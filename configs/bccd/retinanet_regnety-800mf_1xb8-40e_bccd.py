# Copyright (c) mmdynperceiver contributors. All rights reserved.
# The static network to compare with: the feature branch alone.
_base_ = [
    '../_base_/models/retinanet/regnety-800mf_bccd.py',
    '../_base_/datasets/bccd_640x480.py',
    '../_base_/schedules/small_detection_40e.py',
    '../_base_/detection_runtime.py',
]

checkpoint = 'checkpoints/static_regnety-800mf_8xb128_in1k.pth'
model = dict(
    backbone=dict(branches='feature', init_cfg=dict(checkpoint=checkpoint)))

default_hooks = dict(checkpoint=dict(save_best='coco/bbox_mAP'))
