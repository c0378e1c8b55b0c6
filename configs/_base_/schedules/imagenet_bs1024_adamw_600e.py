# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'imagenet_bs1024_adamw_300e.py'

# 20 epochs of warm-up, as with 300.
train_cfg = dict(max_epochs=600)
