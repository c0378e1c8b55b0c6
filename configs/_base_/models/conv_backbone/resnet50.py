# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = '../imagenet_classifier.py'

# The feature branch alone, with one exit at its end.
model = dict(backbone=dict(type='ConvBackbone', arch='resnet50', width=0.375))
