# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = '../classifier.py'

model = dict(
    type='SkippingClassifier',
    rate_weight=0.1,
    backbone=dict(
        type='SkipNetBackbone',
        arch=dict(block='bottleneck', depths=(3, 4, 23, 3))),
    head=dict(num_classes=1000, dropout=0.))
