# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = '../imagenet_classifier.py'

# The feature branch alone, with one exit at its end.
model = dict(backbone=dict(type='ConvBackbone', arch='regnety-800mf'))
