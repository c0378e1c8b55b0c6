# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = [
    '../_base_/models/skipnet/resnet101.py',
    '../_base_/datasets/imagenet_crop_flip_bs32.py',
    '../_base_/schedules/imagenet_bs256_sgd_90e.py',
    '../_base_/default_runtime.py',
]

optim_wrapper = dict(optimizer=dict(nesterov=False))
param_scheduler = [
    dict(
        type='MultiStepLR',
        begin=0,
        end=120,
        by_epoch=True,
        milestones=[30, 60, 90],
        gamma=0.1)
]
train_cfg = dict(max_epochs=120)
custom_hooks = [*_base_.custom_hooks, dict(type='SoftGatesHook')]
