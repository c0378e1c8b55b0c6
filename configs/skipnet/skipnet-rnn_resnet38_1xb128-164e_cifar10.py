# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = [
    '../_base_/models/skipnet/cifar.py',
    '../_base_/datasets/cifar10_bs128.py',
    '../_base_/schedules/cifar_bs128_sgd_164e.py',
    '../_base_/default_runtime.py',
]

custom_hooks = [*_base_.custom_hooks, dict(type='SoftGatesHook')]
