# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'adamw_cosine.py'

param_scheduler = [
    dict(_base_.param_scheduler[0], start_factor=1e-2, end=5),
    dict(_base_.param_scheduler[1], begin=5),
]
train_cfg = dict(max_epochs=200)

auto_scale_lr = dict(base_batch_size=128)
