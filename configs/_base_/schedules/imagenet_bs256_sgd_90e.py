# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'cifar_bs64_sgd_300e.py'

param_scheduler = [
    dict(
        type='MultiStepLR',
        begin=0,
        end=90,
        by_epoch=True,
        milestones=[30, 60],
        gamma=0.1)
]
train_cfg = dict(max_epochs=90)

auto_scale_lr = dict(base_batch_size=256)
