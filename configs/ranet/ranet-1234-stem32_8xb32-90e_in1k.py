# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = [
    '../_base_/models/ranet/imagenet.py',
    '../_base_/datasets/imagenet_crop_flip_bs32.py',
    '../_base_/schedules/imagenet_bs256_sgd_90e.py',
    '../_base_/default_runtime.py',
]

optim_wrapper = dict(optimizer=dict(nesterov=False))
