# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The main job on embedded data: 64x64 digits, minutes on two CPU cores.

The images come from ``python -m projects.digits`` (``tools/demo.py`` runs it).
Each of the 1,200 source digits of the training split is drawn many times in
different scenes.
"""
_base_ = ['../_base_/default_runtime.py']

data_root = 'data/digits/'
num_classes = 10
max_epochs = 5
batch_size = 128
base_lr = 3e-3

model = dict(
    type='DynPerceiverClassifier',
    backbone=dict(
        type='DynPerceiverBackbone',
        # Most of the depth, and of the MACs, lies behind the first exit.
        arch=dict(block='basic', depths=(1, 1, 4, 4)),
        width=0.25,
        num_latents=8,
        # Self-attention in stage 4 only: two blocks.
        depth_factor=(0, 0, 0, 2 / 3),
        drop_path_rate=0.),
    head=dict(type='DynPerceiverHead', num_classes=num_classes))

data_preprocessor = dict(
    num_classes=num_classes,
    mean=[127.5, 127.5, 127.5],
    std=[63.75, 63.75, 63.75],
    to_rgb=True)

# The images have their size already.
pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]

dataset = dict(
    type='CheckedImageFolder', data_root=data_root, pipeline=pipeline)
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=1,
    persistent_workers=True,
    # One tensor for the whole batch comes from the worker much faster than
    # one for each image.
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(**dataset, split='train'))
val_dataloader = dict(
    batch_size=200,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**dataset, split='val', test_mode=True))
test_dataloader = dict(
    batch_size=200,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**dataset, split='test', test_mode=True))
val_evaluator = dict(type='EarlyExitMetric', topk=(1, ))
test_evaluator = val_evaluator

optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=base_lr, weight_decay=0.05, fused=True),
    paramwise_cfg=dict(
        norm_decay_mult=0., bias_decay_mult=0., flat_decay_mult=0.))
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.02,
        end=1,
        by_epoch=True,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-6,
        begin=1,
        by_epoch=True,
        convert_to_iter_based=True)
]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()

default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(interval=1, max_keep_ckpts=1, save_best=None))
randomness = dict(seed=0)

custom_imports = dict(
    imports=['mmdynperceiver.classification'], allow_failed_imports=False)
