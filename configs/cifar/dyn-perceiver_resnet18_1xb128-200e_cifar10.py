# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = [
    'mmpretrain::_base_/datasets/cifar10_bs16.py',
    '../_base_/schedules/cifar_bs128_adamw_200e.py',
    '../_base_/default_runtime.py',
]
custom_imports = dict(
    imports=['mmdynperceiver.classification'], allow_failed_imports=False)

model = dict(
    type='DynPerceiverClassifier',
    backbone=dict(
        type='DynPerceiverBackbone',
        # No stride before stage 2: the images have 32x32 pixels.
        arch=dict(block='basic', depths=(2, 2, 2, 2), stem_stride=1),
        num_latents=64,
        drop_path_rate=0.1),
    head=dict(type='DynPerceiverHead', num_classes=10))

train_dataloader = dict(batch_size=128)
val_dataloader = dict(batch_size=500)
test_dataloader = dict(batch_size=500)
val_evaluator = dict(_delete_=True, type='EarlyExitMetric', topk=(1, ))
test_evaluator = val_evaluator
