# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = '../imagenet_classifier.py'

model = dict(
    backbone=dict(
        type='DynPerceiverBackbone',
        arch='resnet50',
        width=0.375,
        num_latents=128))
