# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Fine-tune on your own images: train/<class>/*, val/<class>/*."""
_base_ = [
    '../_base_/models/dyn_perceiver/regnety.py',
    '../_base_/datasets/imagenet_bs128.py',
    '../_base_/schedules/adamw_cosine.py',
    '../_base_/imagenet_runtime.py',
]

data_root = 'data/mine'
dataset = dict(data_root=data_root)

model = dict(
    # A start that pays: dict(type='Pretrained', checkpoint=..., of this
    # network on ImageNet, prefix='backbone.').
    backbone=dict(init_cfg=None),
    head=dict(num_classes=10))

train_dataloader = dict(batch_size=64, num_workers=2, dataset=dataset)
val_dataloader = dict(batch_size=64, num_workers=2, dataset=dataset)
test_dataloader = val_dataloader

optim_wrapper = dict(optimizer=dict(lr=1e-4, betas=(0.9, 0.999)))
train_cfg = dict(max_epochs=30)
auto_scale_lr = dict(base_batch_size=64)
