# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = [
    '../_base_/models/retinanet.py', '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/detection_1x_adamw.py',
    '../_base_/detection_runtime.py'
]

# A classifier of configs/imagenet; its trunk is taken.
checkpoint = 'checkpoints/dyn-perceiver_regnety-1600mf_8xb128_in1k.pth'
model = dict(
    backbone=dict(
        num_latents=128,
        init_cfg=dict(
            type='Pretrained', checkpoint=checkpoint, prefix='backbone.')))
