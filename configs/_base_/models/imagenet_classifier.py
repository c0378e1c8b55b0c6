# Copyright (c) mmdynperceiver contributors. All rights reserved.
# What all families of configs/imagenet share.
_base_ = 'classifier.py'

model = dict(
    head=dict(
        num_classes=1000,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1)),
    # None: those of the checkpoint; without any, all images run to the last
    # exit. Three numbers, or a JSON file that holds them.
    thresholds=None,
    # Their number of classes follows from the head.
    train_cfg=dict(augments=[
        dict(type='Mixup', alpha=0.8),
        dict(type='CutMix', alpha=1.0)
    ]))
