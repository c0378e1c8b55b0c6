# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = [
    '../_base_/models/dyn_perceiver/tsm_resnet50.py',
    '../_base_/datasets/kinetics400_1x1x8.py',
    '../_base_/schedules/tsm_sgd_50e.py',
    '../_base_/video_runtime.py',
]

model = dict(cls_head=dict(num_classes=400))
optim_wrapper = dict(optimizer=dict(weight_decay=1e-4))
