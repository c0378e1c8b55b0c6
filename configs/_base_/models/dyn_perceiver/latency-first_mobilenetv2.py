# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = '../imagenet_classifier.py'

model = dict(
    backbone=dict(
        type='DynPerceiverBackbone',
        arch='torchvision.mobilenet_v2',
        branch='latency-first'),
    head=dict(dropout=0.2))
