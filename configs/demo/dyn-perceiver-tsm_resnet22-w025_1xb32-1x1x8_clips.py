# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Video on embedded data: what a digit does, from the image demo's trunk."""
_base_ = ['../_base_/video_runtime.py', '../_base_/datasets/clips_1x1x8.py']

max_epochs = 8
# From tools/demo.py.
trunk_checkpoint = 'work_dirs/demo/epoch_5.pth'

model = dict(
    type='DynPerceiverRecognizer',
    backbone=dict(
        type='DynPerceiverTSM',
        arch=dict(block='basic', depths=(1, 1, 4, 4)),
        width=0.25,
        num_latents=8,
        depth_factor=(0, 0, 0, 2 / 3),
        drop_path_rate=0.,
        shift_div=4,
        init_cfg=dict(
            type='Pretrained',
            checkpoint=trunk_checkpoint,
            prefix='backbone.')),
    cls_head=dict(type='DynPerceiverTSMHead', num_classes={{_base_.num_classes}}),
    data_preprocessor={{_base_.data_preprocessor}})

optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05, fused=True),
    paramwise_cfg=dict(
        norm_decay_mult=0., bias_decay_mult=0., flat_decay_mult=0.))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.02, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, begin=1, convert_to_iter_based=True)
]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=2)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(logger=dict(interval=25), checkpoint=dict(max_keep_ckpts=1, save_best=None))
randomness = dict(seed=0)
custom_imports = dict(
    imports=['mmdynperceiver.recognition'], allow_failed_imports=False)
