# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""CIFAR-10 as an image folder, ``train/<class>/*`` and ``test/<class>/*``."""
data_root = 'data/cifar10'

data_preprocessor = dict(
    # RGB, in pixels of 0 to 255
    mean=[125.307, 122.961, 113.8575],
    std=[51.5865, 50.847, 51.255],
    to_rgb=True)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=32, padding=4),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]

loader = dict(
    num_workers=1,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'))
dataset = dict(type='CheckedImageFolder', data_root=data_root)
train_dataloader = dict(
    **loader,
    batch_size=128,
    dataset=dict(**dataset, split='train', pipeline=train_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True))
val_dataloader = dict(
    **loader,
    batch_size=200,
    dataset=dict(
        **dataset, split='test', test_mode=True, pipeline=test_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False))
val_evaluator = dict(type='EarlyExitMetric', topk=(1, ))

test_dataloader = val_dataloader
test_evaluator = val_evaluator
