# Copyright (c) mmdynperceiver contributors. All rights reserved.
_base_ = '../imagenet_classifier.py'

model = dict(
    backbone=dict(
        type='DynPerceiverBackbone',
        arch='mobilenetv3-large',
        width=0.75,
        num_latents=128))
