# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = [
    '../_base_/models/skipnet/resnet22-w025.py',
    '../_base_/datasets/cifar10_folder_bs128.py',
    '../_base_/schedules/cifar_bs128_adamw_10e.py',
    '../_base_/default_runtime.py',
]

custom_hooks = [*_base_.custom_hooks, dict(type='SoftGatesHook')]
