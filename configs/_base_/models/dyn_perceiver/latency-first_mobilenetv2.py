# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = '../imagenet_classifier.py'

# A backbone of MMPretrain, cut into stages; see docs/any-backbone.md.
model = dict(
    backbone=dict(
        type='DynPerceiverBackbone',
        arch=dict(type='mmpretrain.MobileNetV2'),
        branch='latency-first'),
    head=dict(dropout=0.2))
