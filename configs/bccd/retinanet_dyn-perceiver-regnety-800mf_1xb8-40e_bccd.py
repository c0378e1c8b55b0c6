# Copyright (c) mmdynperceiver contributors. All rights reserved.
# For a GPU: whole images of 640x480 and an ImageNet classifier's trunk.
_base_ = [
    '../_base_/models/retinanet/regnety-800mf_bccd.py',
    '../_base_/datasets/bccd_640x480.py',
    '../_base_/schedules/small_detection_40e.py',
    '../_base_/detection_runtime.py',
]

default_hooks = dict(checkpoint=dict(save_best='coco/bbox_mAP'))
