# Copyright (c) mmdynperceiver contributors. All rights reserved.
# The classification branch of few, large operations; any arch.
_base_ = '../imagenet_classifier.py'

model = dict(
    backbone=dict(
        type='DynPerceiverBackbone',
        arch='mobilenetv3-large',
        width=0.75,
        branch='latency-first'))
