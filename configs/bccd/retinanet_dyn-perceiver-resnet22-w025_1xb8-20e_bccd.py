# Copyright (c) mmdynperceiver contributors. All rights reserved.
# Reduced: small images and a small network, from no pretrained weights.
_base_ = [
    '../_base_/models/retinanet/resnet22-w025.py',
    '../_base_/datasets/bccd.py',
    '../_base_/schedules/small_detection.py',
    '../_base_/detection_runtime.py',
]

model = dict(
    backbone=dict(num_latents=8, depth_factor=(0, 0, 0, 2 / 3)),
    bbox_head=dict(num_classes=3))

train_cfg = dict(max_epochs=20, val_interval=5)
default_hooks = dict(checkpoint=dict(save_best='coco/bbox_mAP'))
