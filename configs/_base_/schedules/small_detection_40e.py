# Copyright (c) mmdynperceiver contributors. All rights reserved.
# From pretrained weights.
_base_ = 'small_detection.py'

optim_wrapper = dict(optimizer=dict(lr=2e-4))
train_cfg = dict(max_epochs=40, val_interval=5)
