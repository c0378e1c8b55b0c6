# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = 'ranet-1233-linear_1xb64-300e_cifar10.py'

model = dict(backbone=dict(step=4, step_mode='even'))
