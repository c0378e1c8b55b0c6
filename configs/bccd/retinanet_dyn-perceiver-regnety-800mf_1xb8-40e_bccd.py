# Copyright (c) mmdynperceiver contributors. All rights reserved.
# For a GPU: whole images of 640x480 and an ImageNet classifier's trunk.
_base_ = ['./retinanet_dyn-perceiver-resnet22-w025_1xb8-20e_bccd.py']

checkpoint = 'checkpoints/dyn-perceiver_regnety-800mf_8xb128_in1k.pth'
model = dict(
    backbone=dict(
        _delete_=True,
        type='DynPerceiverDetBackbone',
        arch='regnety-800mf',
        norm_eval=True,
        init_cfg=dict(
            type='Pretrained', checkpoint=checkpoint, prefix='backbone.')),
    neck=dict(in_channels=[64, 144, 320, 784], out_channels=256),
    bbox_head=dict(
        in_channels=256,
        feat_channels=256,
        stacked_convs=4,
        anchor_generator=dict(octave_base_scale=4)))

load = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(640, 480), keep_ratio=True)
]
flip = dict(type='RandomFlip', prob=0.5, direction=['horizontal', 'vertical'])
train_pipeline = [*load, flip, dict(type='PackDetInputs')]
test_pipeline = [*load, dict(type='PackDetInputs')]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))

optim_wrapper = dict(optimizer=dict(lr=2e-4))
train_cfg = dict(max_epochs=40)
