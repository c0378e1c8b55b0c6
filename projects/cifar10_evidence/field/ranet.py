# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""RANet of about the MACs of the others."""
_base_ = [
    '../../../configs/_base_/models/ranet/cifar.py',
    '../../../configs/_base_/datasets/cifar10_folder_bs128.py',
    '../../../configs/_base_/schedules/cifar_bs128_adamw_10e.py',
    '../../../configs/_base_/default_runtime.py',
]

model = dict(
    backbone=dict(step_mode='even', stem_channels=8, growth=4, exit_width=64))
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1, save_best=None))
