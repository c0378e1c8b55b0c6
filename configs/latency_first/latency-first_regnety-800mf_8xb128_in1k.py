# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = [
    '../_base_/models/dyn_perceiver/regnety.py',
    '../_base_/datasets/imagenet_bs128.py',
    '../_base_/schedules/imagenet_bs1024_adamw_300e.py',
    '../_base_/imagenet_runtime.py',
]

model = dict(
    backbone=dict(
        num_latents=16,
        branch='latency-first',
        latent_channels=256,
        num_heads=(4, 4, 4, 4)))
