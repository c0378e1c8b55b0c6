# Copyright (c) mmdynperceiver contributors. All rights reserved.
# Whole images.
_base_ = 'bccd.py'

resize = dict(type='Resize', scale=(640, 480), keep_ratio=True)
train_pipeline = [
    *_base_.train_pipeline[:2], resize, *_base_.train_pipeline[3:]
]
test_pipeline = [*_base_.test_pipeline[:2], resize, *_base_.test_pipeline[3:]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
