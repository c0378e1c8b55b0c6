# Copyright (c) mmdynperceiver contributors. All rights reserved.
# The static network to compare with: the feature branch alone.
_base_ = [
    '../_base_/models/retinanet/resnet22-w025.py',
    '../_base_/datasets/bccd.py',
    '../_base_/schedules/small_detection.py',
    '../_base_/detection_runtime.py',
]

model = dict(backbone=dict(branches='feature'), bbox_head=dict(num_classes=3))

train_cfg = dict(max_epochs=20, val_interval=5)
default_hooks = dict(checkpoint=dict(save_best='coco/bbox_mAP'))
