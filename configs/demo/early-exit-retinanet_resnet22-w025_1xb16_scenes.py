# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""A detector that stops early, on embedded data: minutes on two CPU cores.

The scenes come from ``python -m projects.digits data/scenes --kind scenes``,
and the trunk from the classification demo (``make demo``).
"""
_base_ = [
    '../_base_/models/retinanet/resnet22-w025.py',
    '../_base_/datasets/scenes.py', '../_base_/schedules/small_detection.py',
    '../_base_/detection_runtime.py'
]

model = dict(
    type='DynPerceiverDetector',
    data_preprocessor=dict(
        mean=[127.5, 127.5, 127.5], std=[63.75, 63.75, 63.75]),
    backbone=dict(
        num_latents=8,
        depth_factor=(0, 0, 0, 2 / 3),
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/demo/epoch_5.pth',
            prefix='backbone.')),
    bbox_head=dict(
        num_classes=10,
        # Digits are higher than wide.
        anchor_generator=dict(ratios=[1.5])))

# All exits in one pass; the data are checked before the first step.
custom_hooks = [
    dict(type='EvaluateAllExitsHook'),
    dict(type='CheckDataHook'),
    dict(type='ExitCurveHook')
]
default_hooks = dict(checkpoint=dict(save_best='exit2/bbox_mAP_50'))
