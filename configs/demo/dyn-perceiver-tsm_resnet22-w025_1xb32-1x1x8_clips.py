# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What a digit does in a clip, from the image demo's trunk."""
_base_ = [
    '../_base_/video_runtime.py', '../_base_/datasets/clips_1x1x8.py',
    '../_base_/schedules/clips_b32_adamw_4e.py'
]

model = dict(
    type='DynPerceiverRecognizer',
    backbone=dict(
        type='DynPerceiverTSM',
        # As in the image demo, whose weights it starts from.
        arch=dict(block='basic', depths=(1, 1, 4, 4)),
        width=0.25,
        num_latents=8,
        depth_factor=(0, 0, 0, 2 / 3),
        drop_path_rate=0.,
        num_segments=8,
        shift_div=4,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/demo/epoch_5.pth',
            prefix='backbone.')),
    cls_head=dict(type='DynPerceiverTSMHead', num_classes=8),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[127.5, 127.5, 127.5],
        std=[63.75, 63.75, 63.75],
        format_shape='NCHW'))

default_hooks = dict(
    logger=dict(interval=25),
    checkpoint=dict(max_keep_ckpts=1, save_best=None))
randomness = dict(seed=0)
