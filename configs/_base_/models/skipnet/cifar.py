# Copyright (c) mmdynperceiver contributors. All rights reserved.
# ResNet-38 for CIFAR, of three stages.
_base_ = '../classifier.py'

model = dict(
    type='SkippingClassifier',
    rate_weight=0.1,
    backbone=dict(
        type='SkipNetBackbone',
        arch=dict(block='basic', depths=(6, 6, 6), stem_stride=1),
        width=0.25),
    head=dict(dropout=0.))
