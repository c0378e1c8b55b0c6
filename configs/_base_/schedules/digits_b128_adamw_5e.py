# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'clips_b32_adamw_4e.py'

optim_wrapper = dict(optimizer=dict(lr=3e-3))
train_cfg = dict(max_epochs=5, val_interval=1)
