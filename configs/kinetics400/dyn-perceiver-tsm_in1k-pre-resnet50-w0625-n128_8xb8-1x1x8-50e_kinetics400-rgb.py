# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = [
    '../_base_/models/dyn_perceiver/tsm_resnet50.py',
    '../_base_/datasets/kinetics400_1x1x8.py',
    '../_base_/schedules/tsm_sgd_50e.py', '../_base_/video_runtime.py'
]

# Weights of an image classifier: trained by this config of configs/imagenet,
# or published ones that tools/model_converters has converted.
model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/dyn-perceiver_resnet50-w0625_8xb128_in1k/'
            'epoch_300.pth',
            prefix='backbone.')),
    cls_head=dict(num_classes=400))

optim_wrapper = dict(optimizer=dict(weight_decay=1e-4))
