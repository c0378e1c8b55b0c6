# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""MSDNet of about the MACs of the others."""
_base_ = [
    '../../../configs/_base_/models/msdnet/cifar.py',
    '../../../configs/_base_/datasets/cifar10_folder_bs128.py',
    '../../../configs/_base_/schedules/cifar_bs128_adamw_10e.py',
    '../../../configs/_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        num_exits=4, base=2, stem_channels=8, growth=4, exit_width=64))
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1, save_best=None))
