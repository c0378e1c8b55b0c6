# Copyright (c) mmdynperceiver contributors. All rights reserved.
# 64,000 steps; the rate falls to a tenth at 32,000 and at 48,000.
_base_ = 'cifar_bs64_sgd_300e.py'

optim_wrapper = dict(optimizer=dict(nesterov=False))
param_scheduler = [
    dict(
        type='MultiStepLR',
        begin=0,
        end=164,
        by_epoch=True,
        milestones=[82, 123],
        gamma=0.1)
]
train_cfg = dict(max_epochs=164)

auto_scale_lr = dict(base_batch_size=128)
