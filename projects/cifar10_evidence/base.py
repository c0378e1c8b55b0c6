# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""MobileNet-V2 with ImageNet's weights, fine-tuned on CIFAR-10 at 96x96."""
_base_ = [
    '../../configs/_base_/models/classifier.py',
    '../../configs/_base_/datasets/cifar10_folder_bs128.py',
    '../../configs/_base_/schedules/adamw_cosine.py',
    '../../configs/_base_/default_runtime.py',
]

# Converted by MMPretrain's mobilenetv2_to_mmpretrain.py.
weights = 'data/mobilenet_v2.pth'
model = dict(
    backbone=dict(
        type='ConvBackbone',
        arch=dict(
            type='mmpretrain.MobileNetV2',
            init_cfg=dict(
                type='Pretrained', checkpoint=weights, prefix='backbone.'))),
    head=dict(dropout=0.2))

data_preprocessor = dict(
    mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
resize = dict(type='Resize', scale=96)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=32, padding=4),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    resize,
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'), resize,
    dict(type='PackInputs')
]
loader = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(
    **loader, batch_size=64, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(**loader, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(max_epochs=10)
# Six networks of one budget: none of their epochs is chosen.
default_hooks = dict(
    checkpoint=dict(max_keep_ckpts=1, save_best=None),
    logger=dict(interval=10))
auto_scale_lr = dict(base_batch_size=64)
