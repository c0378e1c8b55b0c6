# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = [
    '../_base_/models/dyn_perceiver/latency-first.py',
    '../_base_/datasets/imagenet_bs128.py',
    '../_base_/schedules/imagenet_bs1024_adamw_600e.py',
    '../_base_/imagenet_runtime.py',
]
