# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = [
    '../_base_/models/ranet/cifar.py',
    '../_base_/datasets/cifar10_bs64.py',
    '../_base_/schedules/cifar_bs64_sgd_300e.py',
    '../_base_/default_runtime.py',
]

optim_wrapper = dict(optimizer=dict(nesterov=False))
