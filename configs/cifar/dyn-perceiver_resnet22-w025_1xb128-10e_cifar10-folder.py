# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""CIFAR-10 on two CPU cores: a small network, few epochs."""
_base_ = [
    '../_base_/models/dyn_perceiver/resnet22-w025.py',
    '../_base_/datasets/cifar10_folder_bs128.py',
    '../_base_/schedules/cifar_bs128_adamw_10e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        arch=dict(stem_stride=2),
        num_latents=16,
        # One self-attention block in each of the stages 2 and 3 (from 0).
        depth_factor=(0, 0, 1 / 9, 1 / 3)))
