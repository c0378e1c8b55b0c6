# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = [
    '../_base_/models/mask_rcnn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/detection_1x_adamw.py',
    '../_base_/detection_runtime.py',
]

model = dict(backbone=dict(num_latents=128))
