# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = [
    '../_base_/models/resolution_cascade/regnety.py',
    '../_base_/datasets/imagenet_bs128.py',
    '../_base_/schedules/imagenet_bs1024_adamw_300e.py',
    '../_base_/imagenet_runtime.py',
]
