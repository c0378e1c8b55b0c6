# Copyright (c) mmdynperceiver contributors. All rights reserved.
# Digits of 64x64 pixels, from `python -m projects.digits`.
data_root = 'data/digits/'
data_preprocessor = dict(
    num_classes=10,
    mean=[127.5, 127.5, 127.5],
    std=[63.75, 63.75, 63.75],
    to_rgb=True)

# These have their size already; images of a user may not.
train_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=64, backend='pillow'),
    dict(type='PackInputs')
]

dataset = dict(type='CheckedImageFolder', data_root=data_root)
train_dataloader = dict(
    batch_size=128,
    num_workers=1,
    persistent_workers=True,
    # One tensor for the whole batch comes from the worker much faster than
    # one for each image.
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(**dataset, split='train', pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=200,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **dataset, split='val', pipeline=test_pipeline, test_mode=True))
test_dataloader = dict(
    batch_size=200,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **dataset, split='test', pipeline=test_pipeline, test_mode=True))
val_evaluator = dict(type='EarlyExitMetric', topk=(1, ))
test_evaluator = val_evaluator
