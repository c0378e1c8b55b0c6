# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'adamw_cosine.py'

optim_wrapper = dict(
    optimizer=dict(lr=2e-3, fused=True),
    paramwise_cfg=dict(norm_decay_mult=0., bias_decay_mult=0.))
param_scheduler = [
    dict(_base_.param_scheduler[0], start_factor=0.02),
    _base_.param_scheduler[1],
]
train_cfg = dict(max_epochs=4, val_interval=2)
