# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Fine-tune on your own images: train/<class>/*, val/<class>/*."""
_base_ = '../imagenet/dyn-perceiver_regnety-800mf_8xb128_in1k.py'

data_root = 'data/mine'
num_classes = 10
max_epochs = 30
dataset = dict(data_root=data_root)

model = dict(
    # A start that pays: dict(type='Pretrained', checkpoint=..., of this
    # network on ImageNet, prefix='backbone.').
    backbone=dict(init_cfg=None),
    head=dict(num_classes=num_classes))

train_dataloader = dict(batch_size=64, num_workers=2, dataset=dataset)
val_dataloader = dict(batch_size=64, num_workers=2, dataset=dataset)
test_dataloader = val_dataloader

optim_wrapper = dict(optimizer=dict(lr=1e-4))
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,
        by_epoch=True,
        end=1,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-6,
        by_epoch=True,
        begin=1,
        convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=64)
