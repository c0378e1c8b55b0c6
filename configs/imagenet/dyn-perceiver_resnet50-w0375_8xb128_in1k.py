# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'dyn-perceiver_regnety-800mf_8xb128_in1k.py'

model = dict(backbone=dict(arch='resnet50', width=0.375))

optim_wrapper = dict(optimizer=dict(lr=6e-4))
