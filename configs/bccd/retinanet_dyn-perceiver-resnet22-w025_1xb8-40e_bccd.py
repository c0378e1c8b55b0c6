# Copyright (c) mmdynperceiver contributors. All rights reserved.
# Reduced: small images and a small network, from no pretrained weights.
_base_ = [
    '../_base_/models/retinanet_resnet22-w025.py',
    '../_base_/datasets/bccd.py', '../_base_/schedules/small_detection.py',
    '../_base_/detection_runtime.py'
]

max_epochs = 40

model = dict(bbox_head=dict(num_classes=3))

param_scheduler = [
    dict(type='LinearLR', start_factor=0.02, end=100, by_epoch=False),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-5,
        T_max=max_epochs,
        by_epoch=True,
        convert_to_iter_based=True)
]
train_cfg = dict(max_epochs=max_epochs, val_interval=10)
default_hooks = dict(checkpoint=dict(save_best='coco/bbox_mAP'))
