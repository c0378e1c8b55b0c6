# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = [
    '../_base_/models/conv_aig/resnet50.py',
    '../_base_/datasets/imagenet_crop_flip_bs32.py',
    '../_base_/schedules/imagenet_bs256_sgd_90e.py',
    '../_base_/default_runtime.py',
]
