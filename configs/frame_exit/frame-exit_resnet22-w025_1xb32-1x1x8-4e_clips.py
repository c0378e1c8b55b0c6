# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The clips of moving digits, from the feature branch of the image demo."""
_base_ = [
    '../_base_/video_runtime.py', '../_base_/datasets/clips_1x1x8.py',
    '../_base_/schedules/clips_b32_adamw_4e.py'
]

model = dict(
    type='FrameExitRecognizer',
    backbone=dict(
        type='FrameExitBackbone',
        arch=dict(block='basic', depths=(1, 1, 4, 4)),
        width=0.25,
        drop_path_rate=0.,
        num_frames=8,
        hidden=256,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/demo/epoch_5.pth',
            prefix='backbone.')),
    cls_head=dict(type='FrameExitHead', num_classes=8),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[127.5, 127.5, 127.5],
        std=[63.75, 63.75, 63.75],
        format_shape='NCHW'))

default_hooks = dict(
    logger=dict(interval=25),
    checkpoint=dict(max_keep_ckpts=1, save_best=None))
randomness = dict(seed=0)
