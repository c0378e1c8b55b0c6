# Copyright (c) mmdynperceiver contributors. All rights reserved.
# The augmentation of networks before RandAugment: crops and flips.
_base_ = 'imagenet_bs128.py'

train_dataloader = dict(
    batch_size=32,
    dataset=dict(pipeline=[
        dict(type='LoadImageFromFile', imdecode_backend='pillow'),
        dict(
            type='RandomResizedCrop',
            scale=224,
            backend='pillow',
            interpolation='bilinear'),
        dict(type='RandomFlip', prob=0.5, direction='horizontal'),
        dict(type='PackInputs'),
    ]))
