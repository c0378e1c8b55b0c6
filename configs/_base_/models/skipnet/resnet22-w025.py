# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = '../classifier.py'

model = dict(
    type='SkippingClassifier',
    rate_weight=0.1,
    backbone=dict(
        type='SkipNetBackbone',
        arch=dict(block='basic', depths=(1, 1, 4, 4), stem_stride=2),
        width=0.25))
