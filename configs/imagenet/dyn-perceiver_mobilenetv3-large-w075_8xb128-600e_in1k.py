# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'dyn-perceiver_regnety-800mf_8xb128_in1k.py'

model = dict(backbone=dict(arch='mobilenetv3-large', width=0.75))

# 20 epochs of warm-up, as with 300.
max_epochs = 600
train_cfg = dict(max_epochs=max_epochs)
