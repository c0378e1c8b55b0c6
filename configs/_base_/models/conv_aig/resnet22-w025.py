# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = '../classifier.py'

model = dict(
    type='SkippingClassifier',
    backbone=dict(
        type='ConvAIGBackbone',
        arch=dict(block='basic', depths=(1, 1, 4, 4), stem_stride=2),
        width=0.25,
        target_rate=0.6))
