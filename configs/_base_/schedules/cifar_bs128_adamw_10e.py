# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'adamw_cosine.py'

optim_wrapper = dict(optimizer=dict(lr=3e-3))
param_scheduler = [
    dict(_base_.param_scheduler[0], start_factor=1e-2),
    _base_.param_scheduler[1],
]
train_cfg = dict(max_epochs=10)

auto_scale_lr = dict(base_batch_size=128)
