# Copyright (c) mmdynperceiver contributors. All rights reserved.
# Half of a batch, on average, is to run each of the 16 blocks.
_base_ = '../classifier.py'

model = dict(
    type='SkippingClassifier',
    backbone=dict(type='ConvAIGBackbone', arch='resnet50', target_rate=0.5),
    head=dict(num_classes=1000, dropout=0.))
