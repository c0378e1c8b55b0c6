# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""CIFAR-10 on two CPU cores: a small network, few epochs."""
_base_ = [
    '../_base_/datasets/cifar10_folder_bs128.py',
    '../_base_/schedules/cifar_bs128_adamw_200e.py',
    '../_base_/default_runtime.py',
]
custom_imports = dict(
    imports=['mmdynperceiver.classification'], allow_failed_imports=False)

model = dict(
    type='DynPerceiverClassifier',
    backbone=dict(
        type='DynPerceiverBackbone',
        arch=dict(block='basic', depths=(1, 1, 4, 4), stem_stride=2),
        width=0.25,
        num_latents=16,
        # One self-attention block in each of the stages 2 and 3 (from 0).
        depth_factor=(0, 0, 1 / 9, 1 / 3),
        drop_path_rate=0.),
    head=dict(type='DynPerceiverHead', num_classes=10))

optim_wrapper = dict(optimizer=dict(lr=3e-3))
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-2,
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
train_cfg = dict(max_epochs=10)
